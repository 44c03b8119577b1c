import { NONCE_BYTES, TAG_BYTES } from '../../crypto/xaes-256-gcm.js';
import { MOST_CHUNKS, roomIn } from '../../http/cookie-chunks.js';
import type { TravelRules } from '../session-travel.js';
import type { SessionRecord } from '../session-store.js';
import { tooLarge } from '../too-large.js';
import { encodeRecord } from './sealed-record.js';

/** The room that a session has in its cookies. */
export class CookieRoom {
  /** Bytes of an encoded record. */
  readonly #capacity: number;
  /** What stands for the secret when a record is measured. */
  readonly #secret: string;

  /** @param rules those of the application; without them there is room for anything. */
  constructor(
    private readonly chunks: number,
    rules?: TravelRules,
  ) {
    this.#capacity = rules ? capacityOf(chunks, rules) : Infinity;
    this.#secret = 'x'.repeat(Math.ceil(((rules?.idBytes ?? 0) * 4) / 3));
  }

  fits(record: SessionRecord): boolean {
    return this.#size(record) <= this.#capacity;
  }

  /**
   * Throws `SessionTooLargeError`. What is too large may still shrink, and be extended: there may have been room for more
   * when it was written.
   */
  require(record: SessionRecord, before?: SessionRecord): void {
    if (this.#sizeAtMost(record) <= this.#capacity) return;
    const size = this.#size(record);
    if (size <= this.#capacity || (before && size <= this.#size(before))) return;
    throw tooLarge(
      record,
      size,
      this.#capacity,
      this.chunks < MOST_CHUNKS
        ? 'Keep it elsewhere and put its id into the session, let the session travel in several cookies ' +
            `(new CookieStore({ chunks: ${this.chunks + 1} })), or use a store on the server.`
        : 'Keep it elsewhere and put its id into the session, or use a store on the server.',
    );
  }

  /** Bytes, as if each character took as many as one can: without encoding anything, for small sessions. */
  #sizeAtMost({ userId = '', fields }: SessionRecord): number {
    let size = 100 + this.#secret.length + 6 * userId.length;
    for (const [name, text] of fields) size += 20 + 6 * name.length + 3 * text.length;
    return size;
  }

  /** Bytes. The instant of issue takes as many as any other. */
  #size(record: SessionRecord): number {
    return Buffer.byteLength(encodeRecord({ secret: this.#secret, savedAt: record.expiresAt, record }));
  }
}

function capacityOf(chunks: number, { cookie, keys }: TravelRules): number {
  const sealed = roomIn(chunks, cookie.name(true)) - '1.'.length - keys.ids[0].length - '.'.length;
  return Math.floor((sealed * 3) / 4) - NONCE_BYTES - TAG_BYTES;
}
