import { NONCE_BYTES, TAG_BYTES } from '../../crypto/xaes-256-gcm.js';
import { MOST_CHUNKS, roomIn } from '../../http/cookie-chunks.js';
import type { TravelRules } from '../session-travel.js';
import type { SessionRecord } from '../session-store.js';
import { tooLarge } from '../too-large.js';
import { encodeRecord } from './sealed-record.js';

/** Checks that sessions fit into their cookies. */
export class CookieRoom {
  /** The largest size of an encoded record, in bytes. */
  readonly #capacity: number;
  /** A text as long as a secret, for measuring records. */
  readonly #secret: string;

  /** @param rules those of the application. Without them, every record fits. */
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
   * Throws `SessionTooLargeError` if a record does not fit. A record no larger than `before` is accepted: there may
   * have been more room when that was written.
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

  /** An upper limit of the size in bytes, computed without encoding. It is enough for small sessions. */
  #sizeAtMost({ userId = '', fields }: SessionRecord): number {
    let size = 100 + this.#secret.length + 6 * userId.length;
    for (const [name, text] of fields) size += 20 + 6 * name.length + 3 * text.length;
    return size;
  }

  /** The size in bytes. `expiresAt` stands for the instant of issue, because every instant has the same length. */
  #size(record: SessionRecord): number {
    return Buffer.byteLength(encodeRecord({ secret: this.#secret, savedAt: record.expiresAt, record }));
  }
}

function capacityOf(chunks: number, { cookie, keys }: TravelRules): number {
  const sealed = roomIn(chunks, cookie.name(true)) - '1.'.length - keys.ids[0].length - '.'.length;
  return Math.floor((sealed * 3) / 4) - NONCE_BYTES - TAG_BYTES;
}
