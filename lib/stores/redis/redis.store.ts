import { oneOf, section, text } from '../../options/checks.js';
import { parseDuration } from '../../options/duration.js';
import { SessionConfigurationError } from '../../errors.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from '../session-store.js';
import { LockedRecords } from './locked-records.js';
import { connect, isRedisClient, type OwnedClient, type RedisClient } from './redis-client.js';
import { isReply, RedisCommands } from './redis-commands.js';
import { RedisKeys } from './redis-keys.js';
import { ScriptedRecords } from './scripted-records.js';
import { EXPIRES, type Indexed, type Pairs, recordIn, TAKEN_BY, valueIn } from './session-hash.js';
import { BATCH, SessionIndex } from './session-index.js';
import type { SessionRecords } from './session-records.js';

/** Options of {@link RedisStore}. */
export interface RedisStoreOptions {
  /**
   * An ioredis client, version 5 or 6: `new Redis(…)`, with `sentinels` too, or `new Cluster(…)`. It stays yours: the
   * store never closes it.
   */
  client: RedisClient;
  /**
   * What the store's keys begin with. Applications that share a server take different ones.
   * @default 'session:'
   */
  prefix?: string;
  /**
   * Whether the server runs Lua scripts, and runs them atomically. `'auto'` asks it once; `false` keeps to plain
   * commands, for what that costs see {@link RedisStore}.
   * @default 'auto'
   */
  scripting?: 'auto' | boolean;
  /**
   * How long a command may take before it is given up: seconds, or text such as `'500ms'`. It holds without a
   * connection too, and whatever the client's own options say.
   * @default 1
   */
  commandTimeout?: number | string;
  /**
   * The current time in milliseconds; for tests.
   * @default Date.now
   */
  clock?: () => number;
}

/** What depends on whether the server runs scripts. */
interface Parts {
  readonly records: SessionRecords;
  readonly index: SessionIndex;
}

export class RedisStore implements SessionStore {
  readonly #commands: RedisCommands;
  readonly #keys: RedisKeys;
  readonly #clock: () => number;
  #parts: Parts | undefined;
  #owned: OwnedClient | undefined;

  constructor(options: RedisStoreOptions) {
    const known = ['client', 'prefix', 'scripting', 'commandTimeout', 'clock'];
    const { client, prefix = 'session:', scripting = 'auto' } = section(options, 'RedisStore', known);
    if (!isRedisClient(client)) {
      throw SessionConfigurationError.value('RedisStore client', client, 'a Redis or a Cluster of ioredis');
    }
    this.#keys = new RedisKeys(
      text(prefix, 'RedisStore prefix', /^.+$/s, 'text of at least one character'),
      client.options.keyPrefix,
    );
    this.#commands = new RedisCommands(client, timeoutOf(options));
    this.#clock = options.clock ?? Date.now;
    const scripts = oneOf(scripting, 'RedisStore scripting', ['auto', true, false]);
    if (scripts !== 'auto') this.#use(scripts);
  }

  /**
   * A store with a connection of its own, which its `close()` ends. Needs the package ioredis.
   *
   * @param url `redis://[user:password@]host[:port][/database]`, or `rediss://…` for TLS
   */
  static fromUrl(url: string, options: Omit<RedisStoreOptions, 'client'> = {}): RedisStore {
    const client = connect(url, timeoutOf(options));
    try {
      const store = new RedisStore({ ...options, client });
      store.#owned = client;
      return store;
    } catch (error) {
      client.disconnect();
      throw error;
    }
  }

  async create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    const now = this.#clock();
    const { records, index } = this.#parts ?? (await this.#choose());
    if (!(await records.create(this.#keys.session(id), record, now))) return 'exists';
    await index.add(id, record, now);
    return 'created';
  }

  async load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    const key = this.#keys.session(id);
    let hash: Pairs;
    try {
      hash = await this.#commands.hash(key);
    } catch (error) {
      if (!isReply(error, /^WRONGTYPE/)) throw error;
      return this.#discard(key, undefined, 'undecodable', report);
    }
    const record = recordIn(hash);
    if (record && record.expiresAt > this.#clock()) return record;
    if (hash.length === 0 || valueIn(hash, TAKEN_BY) !== undefined) return undefined;
    return this.#discard(key, valueIn(hash, EXPIRES), record ? 'expired' : 'undecodable', report);
  }

  touch(id: string, expiresAt: number): Promise<'saved' | 'gone'> {
    return this.commit(id, { set: new Map(), delete: [], header: { expiresAt } });
  }

  async commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const now = this.#clock();
    const { userId, expiresAt } = delta.header;
    const { records, index } = this.#parts ?? (await this.#choose());
    // In the index first: the id is known already, and must not be a user's without him being able to find it.
    if (typeof userId === 'string') await index.add(id, { userId, expiresAt: expiresAt ?? now }, now);
    const before = await records.commit(this.#keys.session(id), delta, now);
    if (!before) return 'gone';
    if (userId !== undefined || expiresAt !== undefined) {
      await index.move(id, before, id, after(before, delta), now);
    }
    return 'saved';
  }

  async rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const now = this.#clock();
    const { records, index } = this.#parts ?? (await this.#choose());
    const before = await records.rotate(this.#keys.session(id), this.#keys.session(newId), delta, now);
    if (!before) return 'gone';
    await index.move(id, before, newId, after(before, delta), now);
    return 'saved';
  }

  async destroy(id: string): Promise<boolean> {
    const { records, index } = this.#parts ?? (await this.#choose());
    const before = await records.destroy(this.#keys.session(id), this.#clock());
    if (before) await index.remove(id, before.userId);
    return before !== undefined;
  }

  async listByUser(userId: string): Promise<Map<string, SessionRecord>> {
    const { index } = this.#parts ?? (await this.#choose());
    const sessions = new Map<string, SessionRecord>();
    const look = async (id: string): Promise<void> => {
      const record = await this.load(id);
      if (record?.userId === userId) sessions.set(id, record);
    };
    for await (const ids of index.ofUser(userId)) {
      await Promise.all(ids.map(look));
      const others = ids.filter((id) => !sessions.has(id));
      if (others.length === 0) continue;
      await index.removeOfUser(others, userId);
      // A session that is just becoming his was entered before it did, and is again afterwards. If it became his before
      // this second look, it is put back here; otherwise it will be entered after the removal.
      await Promise.all(others.map(look));
      for (const id of others) {
        const record = sessions.get(id);
        if (record) await index.add(id, record, this.#clock());
      }
    }
    return sessions;
  }

  async count(): Promise<number> {
    return (await this.#survey()).living;
  }

  async sweep(): Promise<number> {
    return (await this.#survey()).removed;
  }

  async clear(): Promise<void> {
    const { records, index } = this.#parts ?? (await this.#choose());
    if (records.listsKeys) {
      const remove = (key: string): Promise<unknown> => this.#commands.run('del', [key]);
      for await (const found of this.#scan()) await Promise.all(this.#keys.ours(found).map(remove));
    } else {
      for await (const ids of index.all()) await Promise.all(ids.map((id) => this.destroy(id)));
    }
  }

  async ping(): Promise<void> {
    await this.#commands.run('ping', []);
  }

  async close(): Promise<void> {
    const client = this.#owned;
    this.#owned = undefined;
    if (client?.status === 'ready') await this.#commands.run('quit', []).catch(() => {});
    client?.disconnect();
  }

  #use(scripting: boolean): Parts {
    if (!this.#parts) {
      const records = new (scripting ? ScriptedRecords : LockedRecords)(this.#commands);
      this.#parts = { records, index: new SessionIndex(this.#commands, this.#keys, records) };
    }
    return this.#parts;
  }

  async #choose(): Promise<Parts> {
    return this.#use(await this.#commands.canScript());
  }

  async #discard(
    key: string,
    expirySeen: string | undefined,
    why: DeadRecord,
    report: ((why: DeadRecord) => void) | undefined,
  ): Promise<undefined> {
    report?.(why);
    try {
      const { records } = this.#parts ?? (await this.#choose());
      await records.discard(key, expirySeen);
    } catch {
      // Removed or not, it is not handed out. A replica, for one, answers reads and removes nothing.
    }
  }

  /** Looks at every session, and removes those whose time is over. */
  async #survey(): Promise<{ living: number; removed: number }> {
    const { records } = this.#parts ?? (await this.#choose());
    const now = this.#clock();
    let living = 0;
    let removed = 0;
    const look = async (key: string): Promise<void> => {
      const expiry = await this.#expiryOf(key);
      if (Number(expiry) > now) living++;
      else if (expiry !== null && (await records.discard(key, expiry))) removed++;
    };
    for await (const keys of this.#sessions()) await Promise.all(keys.map(look));
    return { living, removed };
  }

  async #expiryOf(key: string): Promise<string | null> {
    try {
      return (await this.#commands.run('hget', [key, EXPIRES])) as string | null;
    } catch (error) {
      if (!isReply(error, /^WRONGTYPE/)) throw error;
      return null;
    }
  }

  /** The keys of all sessions, in batches. */
  async *#sessions(): AsyncGenerator<string[]> {
    const { records, index } = this.#parts ?? (await this.#choose());
    if (!records.listsKeys) {
      for await (const ids of index.all()) yield ids.map((id) => this.#keys.session(id));
      return;
    }
    const seen = new Set<string>(); // SCAN shows some keys twice
    for await (const found of this.#scan()) {
      yield this.#keys.sessions(found).filter((key) => !seen.has(key) && seen.add(key));
    }
  }

  /** The keys that begin with the prefix, of every master. */
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

/** What the index knows of a session after a change. */
function after(before: Indexed, { header }: SessionDelta): Indexed {
  const { expiresAt = before.expiresAt, userId = before.userId } = header;
  return { expiresAt, userId: userId ?? undefined };
}

function timeoutOf({ commandTimeout = 1 }: Pick<RedisStoreOptions, 'commandTimeout'>): number {
  return parseDuration(commandTimeout, 'RedisStore commandTimeout');
}
