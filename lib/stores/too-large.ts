import { SessionTooLargeError } from '../errors.js';
import type { SessionRecord } from './session-store.js';

/** Makes the error of a record that is too large for its store. It names the key with the most bytes. */
export function tooLarge(
  { fields }: SessionRecord,
  size: number,
  limit: number,
  remedy = 'Keep it elsewhere and put its id into the session.',
): SessionTooLargeError {
  let largest = '';
  let most = 0;
  for (const [field, text] of fields) {
    const bytes = Buffer.byteLength(field) + Buffer.byteLength(text);
    if (bytes > most) [largest, most] = [field, bytes];
  }
  const key = largest.replace(/^data:/, '').replace(/^flash:/, 'flash.');
  return new SessionTooLargeError(key, size, limit, remedy);
}
