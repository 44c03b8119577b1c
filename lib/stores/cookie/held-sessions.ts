import { BoundedCache } from '../../util/bounded-cache.js';
import type { SessionRecord } from '../session-store.js';
import type { CookieRoom } from './cookie-room.js';

/** A session that this process holds. */
export interface Held {
  readonly record: SessionRecord;
  /** The instant of the last change, in milliseconds. Always later than that of the change before. */
  readonly savedAt: number;
  /** The latest expiry of its known cookies. Other processes may have a longer `maxAge` than this one. */
  readonly knownUntil: number;
  /** The key of its last cookie in the cache of `SealedCookie`. */
  sealedAs?: string;
}

/** Milliseconds for which a session is held after its last use, for overlapping requests of its browser. */
const HELD_FOR = 10_000;
const MOST_HELD = 10_000;
/** Milliseconds for which the end of a session is known, for requests that began before it. */
const ENDED_FOR = 600_000;
const MOST_ENDED = 100_000;

/** The recently used sessions of a `CookieStore`, and the ids of the recently ended ones. */
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
   * Holds a session that a request brought in its cookie, unless a newer state is held or the session has ended.
   *
   * @param record makes the record, with the lifetimes of this process.
   * @param knownUntil the expiry that the cookie itself has.
   */
  receive(id: string, record: () => SessionRecord, savedAt: number, knownUntil?: number): void {
    const held = this.get(id);
    if ((held && held.savedAt >= savedAt) || this.hasEnded(id)) return;
    const received = record();
    this.#held.set(id, { record: received, savedAt, knownUntil: knownUntil ?? received.expiresAt }, this.now);
  }

  /** Holds a session of another store, if it fits into its cookies. A state from a cookie is newer and stays. */
  adopt(id: string, record: SessionRecord): void {
    if (this.room.fits(record)) this.receive(id, () => record, 0);
  }

  /** Holds the new state of a session. It counts as newer than the state before, whatever the clock says. */
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

  /** Drops a session without ending it: the browser may have a newer cookie of it. */
  drop(id: string): void {
    this.#held.delete(id);
  }

  end(id: string): void {
    this.#held.delete(id);
    this.#ended.set(id, true, this.now);
  }

  /** True if this process knows that the session has ended. Then no cookie of it may be set. */
  hasEnded(id: string): boolean {
    return this.#ended.get(id, this.now) !== undefined;
  }

  /** Makes an id usable again whose session has ended. */
  reopen(id: string): void {
    this.#ended.delete(id);
  }
}
