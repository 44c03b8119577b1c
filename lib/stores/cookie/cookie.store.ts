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
   * A store for the ids of ended sessions, each kept until the session would have expired. Without it, a copy of the
   * cookie from before the logout is still accepted after the logout. It must be durable and must not evict: a session
   * whose id it loses counts as not ended. A `MemoryStore` logs a warning; with `maxSessions`, it stops the boot.
   * @default none
   */
  revocations?: SessionStore;
  /**
   * The largest number of cookies for one session, 1 to 3. Each holds some 3 KB. Servers and proxies limit the headers
   * of a request, often to 8 KB, Node to 16 KB: requests with larger cookies are refused.
   * @default 1
   */
  chunks?: number;
  /**
   * A name that is bound into every cookie: applications with the same secret and different names refuse each other's.
   * @default ''
   */
  audience?: string;
  /**
   * The current time in milliseconds, used until an application with its own clock uses the store; for tests.
   * @default Date.now
   */
  clock?: () => number;
}

/**
 * Keeps sessions in the browser: the cookie holds the whole sealed record. For small sessions and servers that share
 * only a secret.
 *
 * This process also holds each session for ten seconds after its last use. So overlapping requests of one browser see
 * and merge each other's writes, and the last response has all of them. Between processes, the later response wins.
 *
 * A copy of a cookie can be replayed with older data, and without `revocations` even after the logout (RFC 6265bis
 * §8.3). There is no `listByUser()` and no `count()`. A session that does not fit throws `SessionTooLargeError`.
 */
export class CookieStore implements SessionStore {
  /** The largest number of cookies for one session. */
  readonly chunks: number;
  readonly audience: string;
  /** The store for the ids of ended sessions. */
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

  /** Holds the session if it fits into its cookies. */
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
      // Not an end of the session: the browser may have a newer cookie of it.
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
    // Of all calls that end this session, here or (with revocations) in another process, only one may continue.
    if (!(await this.#revoke(id))) return 'gone';
    // A commit may have come in between. Its changes move too, because the old cookie is no longer accepted.
    const record = this.#held.live(id) ?? before;
    this.#held.end(id);
    this.#held.hold(newId, mergedRecord(record, delta));
    return 'saved';
  }

  /** Revokes the session even if it is not held here, because a browser may still have its cookie. */
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

  /** The record after a wait. If it is no longer held, it has not changed since `before`. */
  #current(id: string, before: SessionRecord): SessionRecord | undefined {
    return this.#held.hasEnded(id) ? undefined : (this.#held.live(id) ?? before);
  }

  /** Makes an id usable again whose session has ended. */
  async #reopen(id: string): Promise<void> {
    this.#held.reopen(id);
    await this.revocations?.destroy(revocationOf(id));
  }

  /** Revokes a session; false if it was revoked before. */
  async #revoke(id: string): Promise<boolean> {
    const now = this.#held.now;
    if (!this.revocations) {
      if (this.#held.hasEnded(id)) return false;
      this.#held.end(id);
      return true;
    }
    // No process extends it from now on, so no copy of its cookie is valid after `until`, plus a minute of clock skew.
    const until = Math.max(this.#held.get(id)?.knownUntil ?? 0, now + this.#maxAge);
    const record = { createdAt: now, lastAccessedAt: now, expiresAt: until + 60_000, fields: new Map() };
    return (await this.revocations.create(revocationOf(id), record)) === 'created';
  }
}

/** The key of a revocation. It differs from the session's id, so that one store can hold sessions and revocations. */
function revocationOf(id: string): string {
  return sha256(`revoked: ${id}`);
}
