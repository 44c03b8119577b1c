import type { SessionHeader } from '../session-store.js';
import { isReply, type RedisCommands } from './redis-commands.js';
import type { RedisKeys } from './redis-keys.js';
import { indexedUntil, type SessionRecords } from './session-records.js';

/** Ids that are handled together, where there are many. */
export const BATCH = 500;

type Entry = Pick<SessionHeader, 'expiresAt' | 'userId'>;

/**
 * Sorted sets of ids: one for each user, and, where keys cannot be listed, one of all sessions. They lead to sessions
 * and say nothing about them: whoever reads one looks at each session too.
 */
export class SessionIndex {
  readonly #commands: RedisCommands;
  readonly #keys: RedisKeys;
  readonly #records: SessionRecords;

  constructor(commands: RedisCommands, keys: RedisKeys, records: SessionRecords) {
    this.#commands = commands;
    this.#keys = keys;
    this.#records = records;
  }

  async add(id: string, { expiresAt, userId }: Entry, now: number): Promise<void> {
    const until = indexedUntil(expiresAt, now);
    await Promise.all(this.#of(userId).map((index) => this.#records.index(index, id, until, now)));
  }

  /** A session has changed, or has another id. */
  async move(id: string, before: Entry, newId: string, after: Entry, now: number): Promise<void> {
    const kept = id === newId ? this.#of(after.userId) : [];
    const left = this.#of(before.userId).filter((index) => !kept.includes(index));
    // One after the other: at every instant one of the two ids leads to the session.
    await this.add(newId, after, now);
    await this.#remove([id], left);
  }

  /** Sessions that have ended. */
  remove(id: string, userId: string | undefined): Promise<void> {
    return this.#remove([id], this.#of(userId));
  }

  /** Sessions that turned out not to be a user's. */
  removeOfUser(ids: string[], userId: string): Promise<void> {
    return this.#remove(ids, [this.#keys.user(userId)]);
  }

  /** The ids of a user's sessions, and maybe others, in batches. */
  ofUser(userId: string): AsyncGenerator<string[]> {
    return this.#members(this.#keys.user(userId));
  }

  /** The ids of all sessions, and maybe others, in batches. */
  all(): AsyncGenerator<string[]> {
    return this.#members(this.#keys.all);
  }

  #of(userId: string | undefined): string[] {
    const indexes = this.#records.listsKeys ? [] : [this.#keys.all];
    if (userId !== undefined) indexes.push(this.#keys.user(userId));
    return indexes;
  }

  async #remove(ids: string[], indexes: string[]): Promise<void> {
    try {
      await Promise.all(indexes.map((index) => this.#commands.run('zrem', [index, ...ids])));
    } catch {
      // Whoever reads the index finds that these lead nowhere, and removes them.
    }
  }

  async *#members(index: string): AsyncGenerator<string[]> {
    let ids: string[] = [];
    try {
      ids = (await this.#commands.run('zrangebyscore', [index, '-inf', '+inf'])) as string[];
    } catch (error) {
      if (!isReply(error, /^WRONGTYPE/)) throw error;
      await this.#commands.run('del', [index]);
    }
    for (let start = 0; start < ids.length; start += BATCH) yield ids.slice(start, start + BATCH);
  }
}
