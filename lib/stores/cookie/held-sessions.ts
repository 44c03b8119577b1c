import { BoundedCache } from '../../util/bounded-cache.js';
import type { SessionRecord } from '../session-store.js';
import type { CookieRoom } from './cookie-room.js';

/** A session in use, as this process holds it. */
export interface Held {
  readonly record: SessionRecord;
  /** When it was last changed, in milliseconds, and later than what it was changed from. */
  readonly savedAt: number;
  /** When the last of its cookies expires that we know of; other processes may give them longer than this one. */
  readonly knownUntil: number;
  /** The key under which its last cookie is remembered. */
  sealedAs?: string;
}

/** How long a session that was in use is held, for other requests of its browser that are under way: milliseconds. */
const HELD_FOR = 10_000;
const MOST_HELD = 10_000;
/** How long the end of a session is remembered, for requests that began before it: milliseconds. */
const ENDED_FOR = 600_000;
const MOST_ENDED = 100_000;

/** The sessions of a `CookieStore` that were in use a moment ago, and the ids of those that ended. */
export class HeldSessions {
  readonly #held = new BoundedCache<Held>(MOST_HELD, HELD_FOR);
  readonly #ended = new BoundedCache<true>(MOST_ENDED, ENDED_FOR);

  constructor(
    public clock: () => number,
    public room: CookieRoom,
  ) {}

  get now(): number {
    return this.clock();
  }

  get(id: string): Held | undefined {
    return this.#held.get(id, this.now);
  }

  live(id: string): SessionRecord | undefined {
    const record = this.get(id)?.record;
    return record && record.expiresAt > this.now ? record : undefined;
  }

  /**
   * A request has brought a session in its cookie. What is held may be newer, and what has ended stays so.
   *
   * @param record makes one with the limits of this process.
   * @param knownUntil when the cookie says that it expires.
   */
  receive(id: string, record: () => SessionRecord, savedAt: number, knownUntil?: number): void {
    const held = this.get(id);
    if ((held && held.savedAt >= savedAt) || this.hasEnded(id)) return;
    const received = record();
    this.#held.set(id, { record: received, savedAt, knownUntil: knownUntil ?? received.expiresAt }, this.now);
  }

  /** A session comes from another store, if it fits into the cookies. A cookie that was made of it since is newer. */
  adopt(id: string, record: SessionRecord): void {
    if (this.room.fits(record)) this.receive(id, () => record, 0);
  }

  /** A session was changed, and is later than what it was changed from. */
  hold(id: string, record: SessionRecord): void {
    const { savedAt = 0, knownUntil = 0, sealedAs } = this.get(id) ?? {};
    this.#held.set(
      id,
      {
        record,
        savedAt: Math.max(this.now, savedAt + 1),
        knownUntil: Math.max(knownUntil, record.expiresAt),
        sealedAs,
      },
      this.now,
    );
  }

  /** It is held no longer, and has not ended: another cookie of it may be younger. */
  drop(id: string): void {
    this.#held.delete(id);
  }

  end(id: string): void {
    this.#held.delete(id);
    this.#ended.set(id, true, this.now);
  }

  /** True if this process knows that the session has ended: no cookie is to speak of it any more. */
  hasEnded(id: string): boolean {
    return this.#ended.get(id, this.now) !== undefined;
  }

  /** An id that ended is created once more. */
  reopen(id: string): void {
    this.#ended.delete(id);
  }
}
