import { SessionConfigurationError } from '../../errors.js';
import { MOST_CHUNKS } from '../../http/cookie-chunks.js';
import { sha256 } from '../../util/sha256.js';
import { type SessionTravel, TRAVEL, type TravelRules } from '../session-travel.js';
import { mergedRecord } from '../merged-record.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from '../session-store.js';
import { CookieRoom } from './cookie-room.js';
import { HeldSessions } from './held-sessions.js';
import { requireDurable } from './revocations.js';
import { SealedCookie } from './sealed-cookie.js';

/** Options of {@link CookieStore}. */
export interface CookieStoreOptions {
  /**
   * Keeps the ids of the sessions that were ended, each until the session would have expired by itself. Without it, a
   * copy of the cookie from before the logout is accepted after it. It has to be durable and must evict nothing: what it
   * forgets counts as not ended. A `MemoryStore` with `maxSessions` stops the boot; one without is warned of.
   * @default none
   */
  revocations?: SessionStore;
  /**
   * In how many cookies, 1 to 3, a session may travel; each holds some 3 KB of it. Servers and proxies cap all the
   * headers of a request together, often at 8 KB, Node at 16 KB: a browser with more cookies than that is shut out.
   * @default 1
   */
  chunks?: number;
  /**
   * Bound into every cookie, so that applications that share their secrets do not accept each other's.
   * @default ''
   */
  audience?: string;
  /**
   * The current time in milliseconds, where there is no application whose clock it would be; for tests.
   * @default Date.now
   */
  clock?: () => number;
}

/**
 * Keeps sessions in the browser: the whole record travels, sealed, in the cookie. For small sessions and servers
 * that share nothing but a secret.
 *
 * The sessions of the last ten seconds are held in this process as well, so that requests of one browser that
 * overlap here see and merge each other's writes; the last answer has them all. Between processes the later answer wins.
 *
 * What a browser has is out of reach: a copy of a cookie can be replayed, with older data, and, without `revocations`,
 * even after the logout (RFC 6265bis §8.3). `listByUser` and `count` cannot be had. A session that does not fit is a
 * `SessionTooLargeError`.
 */
export class CookieStore implements SessionStore {
  /** In how many cookies a session may travel. */
  readonly chunks: number;
  readonly audience: string;
  /** Where ended sessions are remembered: sessions can be revoked. */
  readonly revocations: SessionStore | undefined;
  readonly ping: SessionStore['ping'];
  readonly #held: HeldSessions;
  /** Milliseconds. */
  #maxAge = 86_400_000;

  constructor(options: CookieStoreOptions = {}) {
    const { chunks = 1, audience = '', revocations, clock = Date.now } = options;
    if (!Number.isInteger(chunks) || chunks < 1 || chunks > MOST_CHUNKS) {
      throw SessionConfigurationError.value('CookieStore chunks', chunks, 'a whole number from 1 to 3');
    }
    if (typeof audience !== 'string') {
      throw SessionConfigurationError.value('CookieStore audience', audience, 'text');
    }
    if (
      revocations !== undefined &&
      (typeof revocations.create !== 'function' || revocations instanceof CookieStore)
    ) {
      throw new SessionConfigurationError(
        'CookieStore revocations',
        'it takes a store that keeps its sessions itself',
      );
    }
    this.chunks = chunks;
    this.audience = audience;
    this.revocations = revocations;
    if (revocations?.ping) this.ping = () => revocations.ping?.() as Promise<void>;
    this.#held = new HeldSessions(clock, new CookieRoom(chunks));
  }

  /** @internal */
  [TRAVEL](rules: TravelRules): SessionTravel {
    requireDurable(this.revocations);
    this.#held.clock = rules.clock;
    this.#held.room = new CookieRoom(this.chunks, rules);
    this.#maxAge = rules.maxAge;
    return new SealedCookie(this, this.#held, rules);
  }

  /** Takes what fits into the cookies. */
  async adopt(id: string, record: SessionRecord): Promise<void> {
    this.#held.adopt(id, { ...record, fields: new Map(record.fields) });
  }

  async create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    if (this.#held.live(id)) return 'exists';
    const { expiresAt, createdAt, lastAccessedAt, userId } = record;
    const created = { createdAt, lastAccessedAt, expiresAt, userId, fields: new Map(record.fields) };
    this.#held.room.require(created);
    if (this.#held.hasEnded(id)) await this.#reopen(id);
    this.#held.hold(id, created);
    return 'created';
  }

  async load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    const held = this.#held.get(id);
    if (held && held.record.expiresAt <= this.#held.now) {
      // Not the end of the session: another cookie of it may be younger.
      this.#held.drop(id);
      report?.('expired');
      return undefined;
    }
    if (!held) return undefined;
    if (this.revocations) await this.#askRevocations(id);
    const record = this.#current(id, held.record);
    return record && { ...record, fields: new Map(record.fields) };
  }

  touch(id: string, expiresAt: number): Promise<'saved' | 'gone'> {
    return this.commit(id, { set: new Map(), delete: [], header: { expiresAt } });
  }

  async commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const before = this.#held.live(id);
    if (!before) return 'gone';
    if (this.revocations) await this.#askRevocations(id);
    const record = this.#current(id, before);
    if (!record) return 'gone';
    const next = mergedRecord(record, delta);
    this.#held.room.require(next, record);
    this.#held.hold(id, next);
    return 'saved';
  }

  async rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const before = this.#held.live(id);
    if (!before) return 'gone';
    this.#held.room.require(mergedRecord(before, delta), before);
    // Of all that end this session, here or (with revocations) in another process, one finds it not ended yet.
    if (!(await this.#revoke(id))) return 'gone';
    // A commit may have come in between, and whatever is in the session now moves: the old cookie is no good any more.
    const record = this.#held.live(id) ?? before;
    this.#held.end(id);
    this.#held.hold(newId, mergedRecord(record, delta));
    return 'saved';
  }

  /** One that is not held here may still be in a browser, so it is revoked all the same. */
  async destroy(id: string): Promise<boolean> {
    const live = this.#held.live(id);
    const ended = await this.#revoke(id);
    this.#held.end(id);
    return ended && live !== undefined;
  }

  async close(): Promise<void> {
    await this.revocations?.close?.();
  }

  async #askRevocations(id: string): Promise<void> {
    if (await this.revocations?.load(revocationOf(id))) this.#held.end(id);
  }

  /** The record as it is now. One that is held no longer, while something was waited for, has not changed. */
  #current(id: string, before: SessionRecord): SessionRecord | undefined {
    return this.#held.hasEnded(id) ? undefined : (this.#held.live(id) ?? before);
  }

  /** An id that ended and is created once more. */
  async #reopen(id: string): Promise<void> {
    this.#held.reopen(id);
    await this.revocations?.destroy(revocationOf(id));
  }

  /** Whether it had not been revoked yet. */
  async #revoke(id: string): Promise<boolean> {
    const now = this.#held.now;
    if (!this.revocations) {
      if (this.#held.hasEnded(id)) return false;
      this.#held.end(id);
      return true;
    }
    // From now on nobody extends it, so no copy of its cookie lives longer than this; a minute for clocks that differ.
    const until = Math.max(this.#held.get(id)?.knownUntil ?? 0, now + this.#maxAge);
    const record = { createdAt: now, lastAccessedAt: now, expiresAt: until + 60_000, fields: new Map() };
    return (await this.revocations.create(revocationOf(id), record)) === 'created';
  }
}

/** Under another key than the session itself, so that a store which holds both never takes one for the other. */
function revocationOf(id: string): string {
  return sha256(`revoked: ${id}`);
}
