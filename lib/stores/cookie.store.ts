import { createHash } from 'node:crypto';
import { SessionConfigurationError, SessionTooLargeError } from '../errors.js';
import { mergedRecord } from './merged-record.js';
import { Recent } from './recent.js';
import { encodeRecord } from './sealed-record.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from './session-store.js';

/** Options of {@link CookieStore}. */
export interface CookieStoreOptions {
  /**
   * Keeps the ids of the sessions that were ended, each until the session would have expired by itself. Without it, a
   * copy of the cookie from before the logout is accepted after it.
   * @default none
   */
  revocations?: SessionStore;
  /**
   * In how many cookies, 1 to 4, a session may travel; each holds some 3 KB of it. Servers and proxies cap all the
   * headers of a request together, often at 8 KB.
   * @default 1
   */
  chunks?: number;
  /**
   * Bound into every cookie, so that applications that share their secrets do not accept each other's.
   * @default ''
   */
  audience?: string;
  /**
   * The current time in milliseconds; for tests.
   * @default the module's clock
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

interface Held {
  readonly record: SessionRecord;
  /** When it was last changed, in milliseconds, and later than what it was changed from. */
  readonly savedAt: number;
}

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
    if (!Number.isInteger(chunks) || chunks < 1 || chunks > 4) {
      throw SessionConfigurationError.value('CookieStore chunks', chunks, 'a whole number from 1 to 4');
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

  /** @internal A request has brought a session in its cookie. What is held may be newer; what has ended stays so. */
  admit(id: string, record: SessionRecord, savedAt: number): void {
    const now = this.#rules.clock();
    const held = this.#held.get(id, now);
    if (!this.#ended.get(id, now) && (!held || held.savedAt < savedAt))
      this.#held.set(id, { record, savedAt }, now);
  }

  /** @internal What is to be sealed into the next cookie, if it is still held. */
  held(id: string): Held | undefined {
    return this.#held.get(id, this.#rules.clock());
  }

  async create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    if (this.#live(id)) return 'exists';
    const { expiresAt, createdAt, lastAccessedAt, userId } = record;
    if (this.#ended.get(id, this.#rules.clock())) await this.#revive(id);
    this.#hold(id, { createdAt, lastAccessedAt, expiresAt, userId, fields: new Map(record.fields) });
    return 'created';
  }

  async load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    const held = this.held(id);
    if (held && held.record.expiresAt <= this.#rules.clock()) {
      this.#forget(id);
      report?.('expired');
      return undefined;
    }
    if (!held || (await this.#wasRevoked(id))) return undefined;
    const record = this.#live(id);
    return record && { ...record, fields: new Map(record.fields) };
  }

  touch(id: string, expiresAt: number): Promise<'saved' | 'gone'> {
    return this.commit(id, { set: new Map(), delete: [], header: { expiresAt } });
  }

  async commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    if (!this.#live(id) || (await this.#wasRevoked(id))) return 'gone';
    const record = this.#live(id);
    if (!record) return 'gone';
    this.#hold(id, mergedRecord(record, delta));
    return 'saved';
  }

  async rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const before = this.#live(id);
    if (!before) return 'gone';
    this.#measure(mergedRecord(before, delta));
    // Of all that end this session, here or in another process, one finds it not ended yet.
    if (!(await this.#revoke(id))) return 'gone';
    // A commit may have come in between.
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

  #live(id: string): SessionRecord | undefined {
    const record = this.held(id)?.record;
    return record && record.expiresAt > this.#rules.clock() ? record : undefined;
  }

  #hold(id: string, record: SessionRecord): void {
    this.#measure(record);
    const now = this.#rules.clock();
    this.#held.set(id, { record, savedAt: Math.max(now, (this.held(id)?.savedAt ?? 0) + 1) }, now);
  }

  #forget(id: string): void {
    this.#held.delete(id);
    this.#ended.set(id, true, this.#rules.clock());
  }

  async #wasRevoked(id: string): Promise<boolean> {
    if (!(await this.revocations?.load(revocationOf(id)))) return false;
    this.#forget(id);
    return true;
  }

  /** An id that ended and is created once more. */
  async #revive(id: string): Promise<void> {
    this.#ended.delete(id);
    await this.revocations?.destroy(revocationOf(id));
  }

  /** Whether it had not been revoked yet. */
  async #revoke(id: string): Promise<boolean> {
    const now = this.#rules.clock();
    if (!this.revocations) {
      if (this.#ended.get(id, now)) return false;
      this.#ended.set(id, true, now);
      return true;
    }
    // From now on nobody extends it, so no copy of its cookie lives longer than this; a minute for clocks that differ.
    const expiresAt = now + this.#rules.maxAge + 60_000;
    const record = { createdAt: now, lastAccessedAt: now, expiresAt, fields: new Map() };
    return (await this.revocations.create(revocationOf(id), record)) === 'created';
  }

  #measure(record: SessionRecord): void {
    const { capacity, secret, clock } = this.#rules;
    const size = Buffer.byteLength(encodeRecord({ secret, savedAt: clock(), record }));
    if (size <= capacity) return;
    let largest = '';
    for (const [field, text] of record.fields) {
      if (text.length > (record.fields.get(largest)?.length ?? -1)) largest = field;
    }
    throw new SessionTooLargeError(
      largest.replace(/^data:/, '').replace(/^flash:/, 'flash.'),
      size,
      capacity,
      this.chunks < 4
        ? 'Keep it elsewhere and put its id into the session, let the session travel in several cookies ' +
            `(new CookieStore({ chunks: ${this.chunks + 1} })), or use a store on the server.`
        : 'Keep it elsewhere and put its id into the session, or use a store on the server.',
    );
  }
}

/** Under another key than the session itself, so that a store which holds both never takes one for the other. */
function revocationOf(id: string): string {
  return createHash('sha256').update(`revoked: ${id}`).digest('hex');
}
