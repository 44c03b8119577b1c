import { isReply, type RedisCommands } from './redis-commands.js';
import type { RedisKeys } from './redis-keys.js';
import { EXPIRES } from './session-hash.js';
import { BATCH, type SessionIndex } from './session-index.js';
import type { SessionRecords } from './session-records.js';

/** Walks through everything that the store holds, in batches, for count, sweep and clear. */
export class SessionSurvey {
  readonly #commands: RedisCommands;
  readonly #keys: RedisKeys;
  readonly #records: SessionRecords;
  readonly #index: SessionIndex;

  constructor(commands: RedisCommands, keys: RedisKeys, records: SessionRecords, index: SessionIndex) {
    this.#commands = commands;
    this.#keys = keys;
    this.#records = records;
    this.#index = index;
  }

  /** Counts the living, and removes those whose time is over. */
  async take(now: number): Promise<{ living: number; removed: number }> {
    let living = 0;
    let removed = 0;
    const look = async (key: string): Promise<void> => {
      const expiry = await this.#expiryOf(key);
      if (Number(expiry) > now) living++;
      else if (expiry !== null && (await this.#records.discard(key, expiry))) removed++;
    };
    for await (const keys of this.#sessions()) await Promise.all(keys.map(look));
    return { living, removed };
  }

  async clear(destroy: (id: string) => Promise<unknown>): Promise<void> {
    if (this.#records.listsKeys) {
      const remove = (key: string): Promise<unknown> => this.#commands.run('del', [key]);
      for await (const found of this.#scan()) await Promise.all(this.#keys.ours(found).map(remove));
    } else {
      for await (const ids of this.#index.all()) await Promise.all(ids.map(destroy));
    }
  }

  async *#sessions(): AsyncGenerator<string[]> {
    if (!this.#records.listsKeys) {
      for await (const ids of this.#index.all()) yield ids.map((id) => this.#keys.session(id));
      return;
    }
    const seen = new Set<string>(); // SCAN shows some keys twice
    for await (const found of this.#scan()) {
      yield this.#keys.sessions(found).filter((key) => !seen.has(key) && seen.add(key));
    }
  }

  async #expiryOf(key: string): Promise<string | null> {
    try {
      return (await this.#commands.run('hget', [key, EXPIRES])) as string | null;
    } catch (error) {
      if (!isReply(error, /^WRONGTYPE/)) throw error;
      return null;
    }
  }

  async *#scan(): AsyncGenerator<string[]> {
    for (const master of await this.#commands.masters()) {
      let cursor = '0';
      do {
        const reply = await master.run('scan', [cursor, 'MATCH', this.#keys.pattern, 'COUNT', BATCH]);
        const [next, keys] = reply as [string, string[]];
        cursor = next;
        yield keys;
      } while (cursor !== '0');
    }
  }
}
