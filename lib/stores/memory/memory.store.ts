import { setImmediate as nextTurn } from 'node:timers/promises';
import { parseDuration } from '../../util/duration.js';
import { SessionConfigurationError } from '../../errors.js';
import { type Expiring, ExpiryQueue } from './expiry-queue.js';
import { mergedRecord } from '../merged-record.js';
import { FieldPacker, type PackedFields } from './packed-fields.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from '../session-store.js';
import { ShardedMap } from './sharded-map.js';
import { everyMilliseconds } from '../../util/background-timer.js';

/** Options of {@link MemoryStore}. */
export interface MemoryStoreOptions {
  /**
   * How many sessions to hold. When one more is created, one makes room: an expired one if there is one, else a
   * visitor's (without `userId`), else a user's; of those the one that would expire first. So visitors, however many
   * come, take the place of one user at most.
   * @default Infinity
   */
  maxSessions?: number;
  /**
   * How often expired sessions are collected: seconds, or text such as `'30s'`. They are never handed out,
   * collected or not.
   * @default 30
   */
  sweepInterval?: number | string;
  /**
   * The current time in milliseconds; for tests.
   * @default Date.now
   */
  clock?: () => number;
}

interface Entry extends Expiring, PackedFields {
  readonly id: string;
  readonly createdAt: number;
  lastAccessedAt: number;
  userId: string | undefined;
  names: readonly string[];
  texts: string | readonly string[];
}

/** Expired records removed before other work gets a turn. */
const SWEEP_BATCH = 1000;

// A timer keeps the asynchronous context it was made in. Made while a request is served, it would hold that
// request's AsyncLocalStorage for good; so it is made in the context this module was loaded in.
/**
 * Keeps sessions in this process: for development, tests and single-process servers that may forget everyone on
 * a restart. Every operation is one synchronous step, and therefore atomic.
 */
export class MemoryStore implements SessionStore {
  /** How many sessions it holds at most. */
  readonly maxSessions: number;
  readonly #sessions = new ShardedMap<Entry>();
  /** Two queues, so that visitors can make room before users. */
  readonly #visitors = new ExpiryQueue<Entry>();
  readonly #users = new ExpiryQueue<Entry>();
  /** Most users have one session, and one needs no Set. */
  readonly #byUser = new ShardedMap<Entry | Set<Entry>>();
  readonly #packer = new FieldPacker();
  readonly #sweepInterval: number;
  readonly #clock: () => number;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: MemoryStoreOptions = {}) {
    const { maxSessions = Infinity } = options;
    if (!(maxSessions >= 1)) {
      throw SessionConfigurationError.value('MemoryStore maxSessions', maxSessions, 'a number of at least 1');
    }
    this.maxSessions = maxSessions;
    this.#sweepInterval = parseDuration(options.sweepInterval ?? 30, 'MemoryStore sweepInterval');
    this.#clock = options.clock ?? Date.now;
  }

  async create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    if (this.#live(id)) return 'exists';
    this.#startSweeping();
    // Ends: each turn removes one.
    while (this.#sessions.size >= this.maxSessions) this.#remove(this.#nextToEvict());
    this.#add(id, record);
    return 'created';
  }

  async load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    const entry = this.#sessions.get(id);
    if (!entry) return undefined;
    if (entry.expiresAt <= this.#clock()) {
      this.#remove(entry);
      report?.('expired');
      return undefined;
    }
    return this.#recordOf(entry);
  }

  async touch(id: string, expiresAt: number): Promise<'saved' | 'gone'> {
    const entry = this.#live(id);
    if (!entry) return 'gone';
    entry.expiresAt = expiresAt;
    this.#queueOf(entry).moved(entry);
    return 'saved';
  }

  async commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const entry = this.#live(id);
    if (!entry) return 'gone';
    const { lastAccessedAt = entry.lastAccessedAt, expiresAt = entry.expiresAt, userId } = delta.header;
    const { names, texts } = this.#packer.merge(entry, delta);
    entry.names = names;
    entry.texts = texts;
    entry.lastAccessedAt = lastAccessedAt;
    if (userId !== undefined && userId !== entry.userId) {
      this.#removeFromIndex(entry);
      this.#queueOf(entry).remove(entry);
      entry.userId = userId ?? undefined;
      this.#queueOf(entry).add(entry);
      this.#addToIndex(entry);
    }
    if (expiresAt !== entry.expiresAt) {
      entry.expiresAt = expiresAt;
      this.#queueOf(entry).moved(entry);
    }
    return 'saved';
  }

  async rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const entry = this.#live(id);
    if (!entry) return 'gone';
    this.#remove(entry);
    this.#add(newId, mergedRecord(this.#recordOf(entry), delta));
    return 'saved';
  }

  async destroy(id: string): Promise<boolean> {
    const entry = this.#live(id);
    if (entry) this.#remove(entry);
    return entry !== undefined;
  }

  async listByUser(userId: string): Promise<Map<string, SessionRecord>> {
    const now = this.#clock();
    const listed = this.#byUser.get(userId) ?? new Set();
    const entries = listed instanceof Set ? [...listed] : [listed];
    const live = entries.filter(({ expiresAt }) => expiresAt > now);
    return new Map(live.map((entry) => [entry.id, this.#recordOf(entry)]));
  }

  async count(): Promise<number> {
    await this.sweep();
    return this.#sessions.size;
  }

  async clear(): Promise<void> {
    this.#sessions.clear();
    this.#visitors.clear();
    this.#users.clear();
    this.#byUser.clear();
  }

  async sweep(): Promise<number> {
    const now = this.#clock();
    let removed = 0;
    for (const queue of [this.#visitors, this.#users]) {
      for (let entry = queue.first; entry && entry.expiresAt <= now; entry = queue.first) {
        this.#remove(entry);
        if (++removed % SWEEP_BATCH === 0) await nextTurn();
      }
    }
    return removed;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #live(id: string): Entry | undefined {
    const entry = this.#sessions.get(id);
    if (!entry || entry.expiresAt > this.#clock()) return entry;
    this.#remove(entry);
    return undefined;
  }

  #add(id: string, { createdAt, lastAccessedAt, expiresAt, userId, fields }: SessionRecord): void {
    const { names, texts } = this.#packer.pack(fields);
    const entry: Entry = { id, createdAt, lastAccessedAt, expiresAt, userId, names, texts, position: 0 };
    this.#sessions.set(id, entry);
    this.#queueOf(entry).add(entry);
    this.#addToIndex(entry);
  }

  #remove(entry: Entry): void {
    this.#sessions.delete(entry.id);
    this.#queueOf(entry).remove(entry);
    this.#removeFromIndex(entry);
  }

  /** Asked for before `userId` changes, and again after it. */
  #queueOf({ userId }: Entry): ExpiryQueue<Entry> {
    return userId === undefined ? this.#visitors : this.#users;
  }

  /** Who makes room; there is somebody. */
  #nextToEvict(): Entry {
    const user = this.#users.first;
    if (user && user.expiresAt <= this.#clock()) return user;
    return (this.#visitors.first ?? user) as Entry;
  }

  #addToIndex(entry: Entry): void {
    if (entry.userId === undefined) return;
    const others = this.#byUser.get(entry.userId);
    if (others === undefined) this.#byUser.set(entry.userId, entry);
    else if (others instanceof Set) others.add(entry);
    else this.#byUser.set(entry.userId, new Set([others, entry]));
  }

  #removeFromIndex(entry: Entry): void {
    if (entry.userId === undefined) return;
    const others = this.#byUser.get(entry.userId);
    if (others instanceof Set) others.delete(entry);
    if (others === entry || (others instanceof Set && others.size === 0)) this.#byUser.delete(entry.userId);
  }

  #recordOf(entry: Entry): SessionRecord {
    const { createdAt, lastAccessedAt, expiresAt, userId } = entry;
    return { createdAt, lastAccessedAt, expiresAt, userId, fields: this.#packer.unpack(entry) };
  }

  #startSweeping(): void {
    this.#timer ??= everyMilliseconds(this.#sweepInterval, () => void this.sweep());
  }
}
