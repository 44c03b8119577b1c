import { isHttps, type Located } from '../http/request-context.js';
import type { DeadRecord, SessionRecord } from '../stores/session-store.js';
import type { Verified } from '../stores/session-travel.js';
import type { SessionRuntime } from './session-runtime.js';

/**
 * What a request's cookie led to: nothing (or a session of which something is to be told), a record, or a store that
 * could not be reached.
 */
export type Found =
  | { readonly status: 'new'; readonly ended?: Ended }
  | { readonly status: 'stored'; readonly verified: Verified; readonly record: SessionRecord }
  | { readonly status: 'unavailable'; readonly verified: Verified; readonly error: unknown };

/** Why the session that a cookie names is no more: its time was over, or its user has too many others. */
export type Ended = 'expired' | 'displaced';

const NOTHING: Found = { status: 'new' };

/** Looks for the session that a request's cookie names; without a cookie no store is asked, and nothing awaited. */
export function findSession(runtime: SessionRuntime, at: Located): Found | Promise<Found> {
  const { travel } = runtime;
  const header = at.request.headers.cookie;
  if (!travel.cookie.mayBeIn(header)) return NOTHING;
  const verified = travel.read(
    header,
    travel.cookie.isSecure(() => isHttps(at.request)),
  );
  if (verified === undefined) return NOTHING;
  if (typeof verified === 'object') return load(runtime, at, verified);
  runtime.emit({ type: 'rejected', reason: verified });
  return NOTHING;
}

async function load(runtime: SessionRuntime, { response }: Located, verified: Verified): Promise<Found> {
  const { id } = verified;
  let dead: DeadRecord | undefined;
  try {
    const record = await runtime.store.load(id, (why) => (dead = why));
    if (record && record.expiresAt > runtime.now()) return { status: 'stored', verified, record };
    if (record) {
      // A store that leaves expiry to its users; ours is not one, but theirs may be.
      await runtime.store.destroy(id);
      dead = 'expired';
    }
    // Only where a response can say so.
    if (!dead && response && (await runtime.users.hadToMakeRoom(id)))
      return { status: 'new', ended: 'displaced' };
  } catch (error) {
    if (runtime.onStoreError === 'throw') throw error;
    return { status: 'unavailable', verified, error };
  }
  if (dead === 'expired') {
    runtime.emit({ type: 'expired', id });
    return { status: 'new', ended: 'expired' };
  }
  // An unknown id is never adopted.
  runtime.emit({ type: 'rejected', reason: dead ?? 'unknown', id });
  return NOTHING;
}
