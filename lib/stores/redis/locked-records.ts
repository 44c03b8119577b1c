import { setTimeout as pause } from 'node:timers/promises';
import { mergedRecord } from '../merged-record.js';
import type { SessionDelta, SessionRecord } from '../session-store.js';
import type { RedisArgument } from './redis-client.js';
import { isReply, type RedisCommands } from './redis-commands.js';
import type { RedisKeys } from './redis-keys.js';
import { changesOf, EXPIRES, type Indexed, MOVED_TO, pairsOf, recordIn } from './session-hash.js';
import { type SessionRecords, timeToLive } from './session-records.js';

/** Changes records on servers without scripts: a lock per session, then a look, then plain commands. */
export class LockedRecords implements SessionRecords {
  readonly listsKeys = false;
  readonly #commands: RedisCommands;
  readonly #keys: RedisKeys;

  constructor(commands: RedisCommands, keys: RedisKeys) {
    this.#commands = commands;
    this.#keys = keys;
  }

  create(key: string, record: SessionRecord, now: number): Promise<boolean> {
    return this.#locked(key, now, async (live) => {
      if (!live) await this.#store(key, record, now);
      return !live;
    });
  }

  commit(key: string, delta: SessionDelta, now: number): Promise<Indexed | undefined> {
    return this.#locked(key, now, async (live) => {
      if (!live) return undefined;
      const { pairs, removed } = changesOf(delta);
      const { expiresAt } = delta.header;
      await Promise.all([
        pairs.length > 0 && this.#run('hset', key, ...pairs),
        expiresAt !== undefined && this.#run('pexpire', key, timeToLive(expiresAt, now)),
      ]);
      // Afterwards, since a server that is out of memory would refuse the one and grant the other.
      if (removed.length > 0) await this.#run('hdel', key, ...removed);
      return live;
    });
  }

  async rotate(
    id: string,
    newId: string,
    delta: SessionDelta,
    now: number,
    reindex: (before: Indexed) => Promise<void>,
  ): Promise<boolean> {
    const [key, newKey] = [id, newId].map((either) => this.#keys.session(either));
    const before = await this.#locked(key, now, async (live) => {
      const record = live && recordIn(await this.#commands.hash(key));
      if (!record) return undefined;
      await Promise.all([
        this.#store(newKey, mergedRecord(record, delta), now),
        this.#run('hset', key, MOVED_TO, newId),
      ]);
      // Without its expiry it is no session any more; all that is read of it is where it went.
      await this.#run('hdel', key, EXPIRES);
      return live;
    });
    if (!before) return false;
    await reindex(before);
    await this.#run('del', key).catch(() => {}); // it would go by itself
    return true;
  }

  destroy(key: string, now: number): Promise<Indexed | undefined> {
    return this.#locked(key, now, async (live, expiry) => {
      // What has no expiry is no session; it may say where one has moved to.
      if (expiry !== undefined) await this.#run('del', key);
      return live;
    });
  }

  discard(key: string, expirySeen: string | undefined): Promise<boolean> {
    return this.#locked(key, 0, async (_, expiry) => {
      if (expiry !== expirySeen) return false;
      return Number(await this.#run('del', key)) === 1;
    });
  }

  async index(key: string, id: string, until: number, now: number): Promise<void> {
    const lives = timeToLive(until, now);
    const add = (): Promise<unknown> => this.#run('zadd', key, until, id);
    try {
      await add();
    } catch (error) {
      if (!isReply(error, /^WRONGTYPE/)) throw error;
      await this.#run('del', key);
      await add();
    }
    const [left, ended] = await Promise.all([
      this.#run('pttl', key),
      this.#run('zrangebyscore', key, '-inf', now) as Promise<string[]>,
    ]);
    if (Number(left) < lives) await this.#run('pexpire', key, lives);
    if (ended.length > 0) await this.#run('zrem', key, ...ended);
  }

  /** One HSET holds the whole record, so that nobody sees a part of it. */
  async #store(key: string, record: SessionRecord, now: number): Promise<void> {
    await Promise.all([
      this.#run('del', key),
      this.#run('hset', key, ...pairsOf(record)),
      this.#run('pexpire', key, timeToLive(record.expiresAt, now)),
    ]);
  }

  /**
   * Does something to a session while nobody else does: `SET lock NX PX`, tried until the timeout. The lock lasts four
   * timeouts, and no work takes that long, since each of its commands is answered within one. Only a process that was
   * stopped meanwhile can write after its lock has ended.
   */
  async #locked<T>(
    key: string,
    now: number,
    work: (live: Indexed | undefined, expiry: string | undefined) => Promise<T>,
  ): Promise<T> {
    const { timeout } = this.#commands;
    const lock = `${key}:lock`;
    for (const deadline = performance.now() + timeout; performance.now() < deadline;) {
      // The look is taken by the same round trip; without the lock it is worth nothing.
      const [granted, [createdAt, expiry, userId]] = await Promise.all([
        this.#run('set', lock, '', 'PX', 4 * timeout, 'NX'),
        this.#header(key),
      ]);
      if (granted) {
        try {
          // A hash without a date of creation is what a late HSET has left of a session that had ended.
          const live = createdAt !== null && Number(expiry) > now;
          const before = live ? { expiresAt: Number(expiry), userId: userId ?? undefined } : undefined;
          return await work(before, expiry ?? undefined);
        } finally {
          void this.#run('del', lock).catch(() => {}); // it ends by itself
        }
      }
      await pause(1 + 9 * Math.random());
    }
    throw new Error(
      `The session was locked for ${timeout} ms, by a process that died or a server that is slow`,
    );
  }

  async #header(key: string): Promise<(string | null)[]> {
    try {
      return (await this.#run('hmget', key, 'c', 'e', 'u')) as (string | null)[];
    } catch (error) {
      if (!isReply(error, /^WRONGTYPE/)) throw error;
      return [null, null, null];
    }
  }

  #run(command: string, ...args: RedisArgument[]): Promise<unknown> {
    return this.#commands.run(command, args);
  }
}
