import { oneOf, section, text } from '../../util/checks.js';
import { parseDuration } from '../../util/duration.js';
import { SessionConfigurationError } from '../../errors.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from '../session-store.js';
import { LockedRecords } from './locked-records.js';
import { connect, isRedisClient, type OwnedClient, type RedisClient } from './redis-client.js';
import { isReply, RedisCommands } from './redis-commands.js';
import { RedisKeys } from './redis-keys.js';
import { ScriptedRecords } from './scripted-records.js';
import { EXPIRES, type Indexed, MOVED_TO, type Pairs, recordIn, valueIn } from './session-hash.js';
import { NearCache } from './near-cache.js';
import { SessionIndex } from './session-index.js';
import type { SessionRecords } from './session-records.js';
import { SessionSurvey } from './session-survey.js';

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
   * Keeps so many of the sessions that were last read in this process, for reads without a round trip. The server
   * tells each process what has changed (CLIENT TRACKING, from Redis 6 on, over one more connection), in about a
   * millisecond; a session that another process has ended is never handed out for longer than a second after, nor
   * when the client has been led to another server. For that PING and ROLE are sent four times a second, and INFO server
   * at each connection. Writes are not concerned: they are told at once that it is gone. For one server or Sentinel, not for a cluster.
   * @default none
   */
  cache?: { maxSessions: number };
  /**
   * The current time in milliseconds; for tests.
   * @default Date.now
   */
  clock?: () => number;
}

/** So often a session is looked for again while it moves from id to id. */
const MOST_MOVES = 10;

/** What depends on whether the server runs scripts. */
interface Parts {
  readonly records: SessionRecords;
  readonly index: SessionIndex;
  readonly survey: SessionSurvey;
}

/**
 * Keeps sessions in Redis or Valkey, through ioredis: one server, Sentinel or a cluster. For applications that run in
 * more than one process.
 *
 * **Keys.** `id` is 64 hexadecimal digits, and so is `user`, the SHA-256 of the user's id.
 *
 *     {prefix}{id}         hash         c created, a last accessed, e expires (milliseconds), u user's id if logged in,
 *                                       r which rotation wrote it; `.name` for each field. While a rotation that
 *                                       takes several commands is under way: t the new id, and no e
 *     {prefix}{user}:user  sorted set   ids of his sessions, by the instant until which they are kept here
 *     {prefix}{id}:lock    string       only without scripts
 *     {prefix}{0…0}:all    sorted set   only without scripts: ids of all sessions
 *
 * Every key has a time to live, two minutes longer than what it holds. It collects garbage and nothing else: whether a
 * session has expired is read from `e`, with the application's clock.
 *
 * **Commands.** Each in square brackets is one script of `scripts.ts`, sent by EVALSHA.
 *
 *     load        HGETALL session                                         nothing is parsed but the header
 *     create      [HMGET, HSET, PEXPIRE] session
 *     commit      [HMGET, HSET, HDEL, PEXPIRE] session                    PEXPIRE where the expiry moves
 *     touch       as commit, of `e` alone
 *     rotate      [HMGET, HSET, HDEL, HGETALL, HSET, PTTL, PEXPIRE, DEL, ZREM, ZADD…] session and user
 *                 sent twice if the session had a user, which the first answer says: a script's keys are named ahead
 *                 in a cluster: HGETALL old; [as create] new; [HMGET, HSET, HDEL, PEXPIRE, HGETALL] old;
 *                 [as commit] new, if somebody wrote to the old one meanwhile; user, as below; DEL old
 *     destroy     [HMGET, HGET, DEL] session
 *     then, where a user's session appears, is extended or ends
 *                 [TYPE, ZREMRANGEBYSCORE, ZADD, PTTL, PEXPIRE] user      or ZREM user
 *     listByUser  ZRANGEBYSCORE user, and a load of each; again, if one of them is not there; ZREM of what is not his
 *     count,
 *     sweep       SCAN on every master, HGET e of each; [HGET, DEL] of those that have expired
 *     clear       SCAN on every master, DEL of each key
 *
 * What is no session, of another type or without a header, counts as none; a load removes and reports it.
 *
 * **Without scripts**, on SoliKV and where EVAL is refused, each change is made under a lock (`SET lock NX PX`, `HMGET`,
 * the change, `DEL lock`), with none but these commands: SET, DEL, HSET, HDEL, HGET, HMGET, HGETALL, PEXPIRE, PTTL, ZADD,
 * ZREM, ZRANGEBYSCORE, PING, INFO. Loads are the same. What is weaker:
 *
 *     | With scripts                           | Without                                                            |
 *     | -------------------------------------- | ------------------------------------------------------------------ |
 *     | A change is one command.               | Four or more, in two or three round trips; parallel ones queue up. |
 *     | What breaks leaves no trace.           | It may leave a lock: the session is refused for four timeouts.     |
 *     | A commit is whole, whatever breaks.    | One that sets and deletes may stop after setting.                  |
 *     | A change cannot come late.             | A process or server that stood still for four timeouts may write   |
 *     |                                        | beside another. What it writes to a session that has ended is not  |
 *     |                                        | one, but may lie there until it is looked at.                      |
 *     | A rotation is one step.                | If it breaks between two, both ids are alive; nobody has the new.  |
 *     | The user's index moves in that step.   | It moves after it, and until then the old key leads to the new id. |
 *     | A server without memory lets users     | It refuses that too.                                               |
 *     | log out.                               |                                                                    |
 *     | Every key has a time to live.          | Unless the connection breaks between writing and saying so.        |
 *     | An index lasts as long as its longest. | Two first logins at one instant may leave it the shorter time.     |
 *     | SCAN finds every session.              | One whose creation broke half-way is not counted or cleared.       |
 *
 * A server that refuses HELLO by its access list, rather than not knowing it, needs `protocol: 2` in the options of an
 * ioredis client of version 6.
 *
 * **When the server fails.** Whatever happens to it or to the network, each command is answered or rejected within
 * `commandTimeout`. What waits for a connection is sent in time or never; in a cluster ioredis may go on trying for as
 * long as its `maxRedirections` say. Of what was sent and not answered nobody knows whether it was done. ioredis sends
 * it again when the connection is back, unless its `autoResendUnfulfilledCommands` is false: a rotation then finds that
 * it is done, a commit writes its own values once more.
 *
 * Redis does not wait for its replicas: a failover may lose what was acknowledged, and bring back what was destroyed.
 * `min-replicas-to-write` makes that a matter of a second.
 *
 * **A rotation in a cluster** writes the new record first and then takes the old one, which decides. If the process dies
 * in between, the session is where it was, and a copy whose id nobody knows lies there until it expires. The user's
 * index moves after the record, and until then the old key leads to the new id, so that `listByUser` misses nothing.
 */
export class RedisStore implements SessionStore {
  readonly #commands: RedisCommands;
  readonly #keys: RedisKeys;
  readonly #clock: () => number;
  #parts: Parts | undefined;
  #owned: OwnedClient | undefined;
  #cache: NearCache | undefined;

  constructor(options: RedisStoreOptions) {
    const known = ['client', 'prefix', 'scripting', 'commandTimeout', 'cache', 'clock'];
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
    if (options.cache !== undefined) this.#cache = cacheOf(options, prefix);
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

  create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    return this.#changing([id], () => this.#create(id, record));
  }

  load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    const load = (): Promise<SessionRecord | undefined> => this.#load(id, report);
    return this.#cache ? this.#cache.read(this.#keys.session(id), load, this.#clock()) : load();
  }

  touch(id: string, expiresAt: number): Promise<'saved' | 'gone'> {
    return this.commit(id, { set: new Map(), delete: [], header: { expiresAt } });
  }

  commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    return this.#changing([id], () => this.#commit(id, delta));
  }

  rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    return this.#changing([id, newId], () => this.#rotate(id, newId, delta));
  }

  destroy(id: string): Promise<boolean> {
    return this.#changing([id], () => this.#destroy(id));
  }

  #changing<T>(ids: readonly string[], change: () => Promise<T>): Promise<T> {
    if (!this.#cache) return change();
    return this.#cache.changing(
      ids.map((id) => this.#keys.session(id)),
      change,
    );
  }

  async #create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    const now = this.#clock();
    const { records, index } = this.#parts ?? (await this.#choose());
    if (!(await records.create(this.#keys.session(id), record, now))) return 'exists';
    await index.add(id, record, now);
    return 'created';
  }

  async #load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    const found = await this.#find(id, report);
    return typeof found === 'string' ? undefined : found;
  }

  /** The live session under an id, or the id that it has been given. */
  async #find(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | string | undefined> {
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
    if (hash.length === 0) return undefined;
    const movedTo = record ? undefined : valueIn(hash, MOVED_TO);
    return movedTo ?? this.#discard(key, valueIn(hash, EXPIRES), record ? 'expired' : 'undecodable', report);
  }

  async #commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
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

  async #rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const now = this.#clock();
    const { records, index } = this.#parts ?? (await this.#choose());
    const reindex = (before: Indexed): Promise<void> =>
      index.move(id, before, newId, after(before, delta), now);
    return (await records.rotate(id, newId, delta, now, reindex)) ? 'saved' : 'gone';
  }

  async #destroy(id: string): Promise<boolean> {
    const { records, index } = this.#parts ?? (await this.#choose());
    const before = await records.destroy(this.#keys.session(id), this.#clock());
    if (before) await index.remove(id, before.userId);
    return before !== undefined;
  }

  /**
   * A session that moves meanwhile is listed under one of its ids. If it is not found under the one that the index had,
   * then either that still says which the new one is, or the index has the new one by now, and is read again.
   */
  async listByUser(userId: string): Promise<Map<string, SessionRecord>> {
    const { index } = this.#parts ?? (await this.#choose());
    const sessions = new Map<string, SessionRecord>();
    const seen = new Set<string>();
    const look = async (id: string): Promise<'his' | 'moved' | 'none'> => {
      let at = id;
      let found = await this.#find(id);
      // Ends: each step takes one command, in which no session moves twice.
      for (let moves = 0; typeof found === 'string' && moves < MOST_MOVES; moves++) {
        at = found;
        found = await this.#find(at);
      }
      if (typeof found === 'object' && found.userId === userId) {
        sessions.set(at, found);
        return 'his';
      }
      return at === id ? 'none' : 'moved';
    };
    // Ends when nothing was missed. Each round is about what moved during the one before; after MOST_MOVES it is given up.
    for (let round = 0, missed = true; missed && round < MOST_MOVES; round++) {
      missed = false;
      for await (const ids of index.ofUser(userId)) {
        const unseen = ids.filter((id) => !seen.has(id));
        for (const id of unseen) seen.add(id);
        const looked = await Promise.all(unseen.map(look));
        missed ||= looked.some((outcome) => outcome !== 'his');
        const others = unseen.filter((_, position) => looked[position] === 'none');
        if (others.length === 0) continue;
        await index.removeOfUser(others, userId);
        // A session that is just becoming his was entered before it did, and is again afterwards. If it became his
        // before this second look, it is put back here; otherwise it will be entered after the removal.
        await Promise.all(others.map(look));
        for (const id of others) {
          const record = sessions.get(id);
          if (record) await index.add(id, record, this.#clock());
        }
      }
    }
    return sessions;
  }

  async count(): Promise<number> {
    const { survey } = this.#parts ?? (await this.#choose());
    return (await survey.take(this.#clock())).living;
  }

  async sweep(): Promise<number> {
    const { survey } = this.#parts ?? (await this.#choose());
    return (await survey.take(this.#clock())).removed;
  }

  async clear(): Promise<void> {
    const { survey } = this.#parts ?? (await this.#choose());
    await survey.clear((id) => this.destroy(id));
  }

  async ping(): Promise<void> {
    await this.#commands.run('ping', []);
  }

  async close(): Promise<void> {
    this.#cache?.close();
    const client = this.#owned;
    this.#owned = undefined;
    if (client?.status === 'ready') await this.#commands.run('quit', []).catch(() => {});
    client?.disconnect();
  }

  #use(scripting: boolean): Parts {
    if (!this.#parts) {
      const [commands, keys] = [this.#commands, this.#keys];
      const records = new (scripting ? ScriptedRecords : LockedRecords)(commands, keys);
      const index = new SessionIndex(commands, keys, records);
      this.#parts = { records, index, survey: new SessionSurvey(commands, keys, records, index) };
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
}

/** What the index knows of a session after a change. */
function after(before: Indexed, { header }: SessionDelta): Indexed {
  const { expiresAt = before.expiresAt, userId = before.userId } = header;
  return { expiresAt, userId: userId ?? undefined };
}

function cacheOf({ client, cache }: RedisStoreOptions, prefix: string): NearCache {
  const { maxSessions } = section(cache, 'RedisStore cache', ['maxSessions']);
  if (!Number.isInteger(maxSessions) || (maxSessions as number) < 1) {
    throw SessionConfigurationError.value(
      'RedisStore cache.maxSessions',
      maxSessions,
      'a whole number of at least 1',
    );
  }
  return new NearCache(client, prefix, maxSessions as number);
}

function timeoutOf({ commandTimeout = 1 }: Pick<RedisStoreOptions, 'commandTimeout'>): number {
  return parseDuration(commandTimeout, 'RedisStore commandTimeout');
}
