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
   * The largest number of sessions. Creating one more evicts one: an expired session if there is one, else one of a
   * visitor (without `userId`), else one of a user; among these, the one that would expire first. So visitors evict at
   * most one user, however many they are.
   * @default Infinity
   */
  maxSessions?: number;
  /**
   * Interval at which expired sessions are removed: seconds, or text such as `'30s'`. An expired session is never
   * returned, removed or not.
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

/** Expired records to remove before other work of the event loop runs. */
const SWEEP_BATCH = 1000;

/**
 * Keeps sessions in the memory of this process: for development, tests and single-process servers whose sessions may
 * end with a restart. Every operation is one synchronous step, and therefore atomic.
 */
export class MemoryStore implements SessionStore {
  /** The largest number of sessions. */
  readonly maxSessions: number;
  readonly #sessions = new ShardedMap<Entry>();
  /** Two queues, so that visitors can be evicted before users. */
  readonly #visitors = new ExpiryQueue<Entry>();
  readonly #users = new ExpiryQueue<Entry>();
  /** The sessions of each user. Most users have one session, for which a Set would waste memory. */
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
    // Ends: each pass removes a session.
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

  /** The queue of an entry. It depends on `userId`, so ask again after a change of that. */
  #queueOf({ userId }: Entry): ExpiryQueue<Entry> {
    return userId === undefined ? this.#visitors : this.#users;
  }

  /** The entry to evict when the store is full. The store must not be empty. */
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
