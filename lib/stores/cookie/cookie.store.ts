import { createHash } from 'node:crypto';
import { SessionConfigurationError } from '../../errors.js';
import { mergedRecord } from '../merged-record.js';
import { Recent } from '../recent.js';
import { encodeRecord } from './sealed-record.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from '../session-store.js';
import { tooLarge } from '../too-large.js';

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

/** What the store is told by the application whose cookies it fills. */
export interface CookieRules {
  readonly clock: () => number;
  /** Milliseconds. */
  readonly maxAge: number;
  /** Bytes of an encoded record that fit into the cookies. */
  readonly capacity: number;
  /** What stands for the secret when a record is measured. */
  readonly secret: string;
}

/** A session in use, as this process holds it. */
export interface Held {
  readonly record: SessionRecord;
  /** When it was last changed, in milliseconds, and later than what it was changed from. */
  readonly savedAt: number;
  /** When the last of its cookies expires that we know of; other processes may give them longer than this one. */
  readonly knownUntil: number;
  /** What its last cookie is remembered under. */
  sealedAs?: string;
}

/** The most cookies that a session travels in. */
export const MOST_CHUNKS = 3;

/** How long a session that was in use is held, for other requests of its browser that are under way: milliseconds. */
const HELD_FOR = 10_000;
const MOST_HELD = 10_000;
/** How long the end of a session is remembered, for requests that began before it: milliseconds. */
const ENDED_FOR = 600_000;
const MOST_ENDED = 100_000;

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
  readonly #held = new Recent<Held>(HELD_FOR, MOST_HELD);
  readonly #ended = new Recent<true>(ENDED_FOR, MOST_ENDED);
  #rules: CookieRules;

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
    this.#rules = { clock, maxAge: 86_400_000, capacity: Infinity, secret: '' };
  }

  /** @internal */
  attach(rules: CookieRules): void {
    this.#rules = rules;
  }

  /**
   * @internal A request has brought a session in its cookie. What is held may be newer, and what has ended stays so.
   * `record` makes one with the limits of this process, `knownUntil` is what the cookie says.
   */
  admit(id: string, record: () => SessionRecord, savedAt: number, knownUntil?: number): void {
    const now = this.#now;
    const held = this.#held.get(id, now);
    if ((held && held.savedAt >= savedAt) || this.hasEnded(id)) return;
    const admitted = record();
    this.#held.set(id, { record: admitted, savedAt, knownUntil: knownUntil ?? admitted.expiresAt }, now);
  }

  /**
   * @internal A session comes from another store, if it fits into the cookies. Any cookie that was made of it since is
   * newer.
   */
  adopt(id: string, record: SessionRecord): void {
    if (this.#size(record) <= this.#rules.capacity) this.admit(id, () => record, 0);
  }

  /** @internal What is to be sealed into the next cookie, if it is still held. */
  held(id: string): Held | undefined {
    return this.#held.get(id, this.#now);
  }

  /** @internal Whether this process knows that the session has ended: no cookie is to speak of it any more. */
  hasEnded(id: string): boolean {
    return this.#ended.get(id, this.#now) !== undefined;
  }

  async create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    if (this.#live(id)) return 'exists';
    const { expiresAt, createdAt, lastAccessedAt, userId } = record;
    const created = { createdAt, lastAccessedAt, expiresAt, userId, fields: new Map(record.fields) };
    this.#requireRoom(created);
    if (this.hasEnded(id)) await this.#revive(id);
    this.#hold(id, created);
    return 'created';
  }

  async load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    const held = this.held(id);
    if (held && held.record.expiresAt <= this.#now) {
      // Not the end of the session: another cookie of it may be younger.
      this.#held.delete(id);
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
    const before = this.#live(id);
    if (!before) return 'gone';
    if (this.revocations) await this.#askRevocations(id);
    const record = this.#current(id, before);
    if (!record) return 'gone';
    const next = mergedRecord(record, delta);
    this.#requireRoom(next, record);
    this.#hold(id, next);
    return 'saved';
  }

  async rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const before = this.#live(id);
    if (!before) return 'gone';
    this.#requireRoom(mergedRecord(before, delta), before);
    // Of all that end this session, here or (with revocations) in another process, one finds it not ended yet.
    if (!(await this.#revoke(id))) return 'gone';
    // A commit may have come in between, and whatever is in the session now moves: the old cookie is no good any more.
    const record = this.#live(id) ?? before;
    this.#forget(id);
    this.#hold(newId, mergedRecord(record, delta));
    return 'saved';
  }

  /** One that is not held here may still be in a browser, so it is revoked all the same. */
  async destroy(id: string): Promise<boolean> {
    const live = this.#live(id);
    const ended = await this.#revoke(id);
    this.#forget(id);
    return ended && live !== undefined;
  }

  async close(): Promise<void> {
    await this.revocations?.close?.();
  }

  get #now(): number {
    return this.#rules.clock();
  }

  #live(id: string): SessionRecord | undefined {
    const record = this.held(id)?.record;
    return record && record.expiresAt > this.#now ? record : undefined;
  }

  #hold(id: string, record: SessionRecord): void {
    const { savedAt = 0, knownUntil = 0, sealedAs } = this.held(id) ?? {};
    this.#held.set(
      id,
      {
        record,
        savedAt: Math.max(this.#now, savedAt + 1),
        knownUntil: Math.max(knownUntil, record.expiresAt),
        sealedAs,
      },
      this.#now,
    );
  }

  #forget(id: string): void {
    this.#held.delete(id);
    this.#ended.set(id, true, this.#now);
  }

  async #askRevocations(id: string): Promise<void> {
    if (await this.revocations?.load(revocationOf(id))) this.#forget(id);
  }

  /** The record as it is now. One that is held no longer, while something was waited for, has not changed. */
  #current(id: string, before: SessionRecord): SessionRecord | undefined {
    return this.hasEnded(id) ? undefined : (this.#live(id) ?? before);
  }

  /** An id that ended and is created once more. */
  async #revive(id: string): Promise<void> {
    this.#ended.delete(id);
    await this.revocations?.destroy(revocationOf(id));
  }

  /** Whether it had not been revoked yet. */
  async #revoke(id: string): Promise<boolean> {
    const now = this.#now;
    if (!this.revocations) {
      if (this.hasEnded(id)) return false;
      this.#ended.set(id, true, now);
      return true;
    }
    // From now on nobody extends it, so no copy of its cookie lives longer than this; a minute for clocks that differ.
    const until = Math.max(this.held(id)?.knownUntil ?? 0, now + this.#rules.maxAge);
    const record = { createdAt: now, lastAccessedAt: now, expiresAt: until + 60_000, fields: new Map() };
    return (await this.revocations.create(revocationOf(id), record)) === 'created';
  }

  /** What is too large may still shrink, and be extended: there may have been room for more when it was written. */
  #requireRoom(record: SessionRecord, before?: SessionRecord): void {
    const { capacity } = this.#rules;
    if (this.#sizeAtMost(record) <= capacity) return;
    const size = this.#size(record);
    if (size <= capacity || (before && size <= this.#size(before))) return;
    throw tooLarge(
      record,
      size,
      capacity,
      this.chunks < MOST_CHUNKS
        ? 'Keep it elsewhere and put its id into the session, let the session travel in several cookies ' +
            `(new CookieStore({ chunks: ${this.chunks + 1} })), or use a store on the server.`
        : 'Keep it elsewhere and put its id into the session, or use a store on the server.',
    );
  }

  /** Bytes, as if each character took as many as one can: without encoding anything, for small sessions. */
  #sizeAtMost({ userId = '', fields }: SessionRecord): number {
    let size = 100 + this.#rules.secret.length + 6 * userId.length;
    for (const [name, text] of fields) size += 20 + 6 * name.length + 3 * text.length;
    return size;
  }

  /** Bytes. */
  #size(record: SessionRecord): number {
    return Buffer.byteLength(encodeRecord({ secret: this.#rules.secret, savedAt: this.#now, record }));
  }
}

/** Under another key than the session itself, so that a store which holds both never takes one for the other. */
function revocationOf(id: string): string {
  return createHash('sha256').update(`revoked: ${id}`).digest('hex');
}
