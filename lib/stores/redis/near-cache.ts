import { AsyncLocalStorage } from 'node:async_hooks';
import { SessionConfigurationError } from '../../errors.js';
import type { SessionRecord } from '../session-store.js';
import type { RedisClient } from './redis-client.js';

/** How long after another process has changed a session this one may still hand out what it was: milliseconds. */
const BOUND = 1000;
/** How often the channel is asked whether it still tells everything: milliseconds. */
const HEARTBEAT = 250;
/** A channel that has been silent for so long is given up by ioredis, and another one opened: milliseconds. */
const SILENCE = 5000;

/** How often another connection is made while the channel leads to another server than the client: milliseconds. */
const SEARCH = 1000;

const INVALIDATIONS = '__redis__:invalidate';

/** A connection of our own beside the application's. */
interface Channel extends RedisClient {
  on(event: 'ready' | 'close' | 'error', listener: () => void): unknown;
  on(event: 'messageBuffer', listener: (channel: Buffer, keys: readonly Buffer[] | null) => void): unknown;
  disconnect(reconnect?: boolean): void;
}

/** The application's client. */
interface Duplicable extends RedisClient {
  duplicate(options: object): Channel;
  on(event: 'ready' | 'close', listener: () => void): unknown;
  off(event: 'ready' | 'close', listener: () => void): unknown;
}

// A timer keeps the asynchronous context it was made in, which is to be no request's.
const outsideRequests = AsyncLocalStorage.snapshot();

/**
 * The sessions that were last read, in this process, while the server says of each that changes.
 *
 * A connection of our own asks for that (CLIENT TRACKING … BCAST): whoever changes a key, by whatever command, or the
 * server that lets it expire or evicts it, each process is told. That takes as long as a message takes. So that it
 * never takes longer than a second, the channel is asked four times a second for a sign of life, which comes after all
 * that was told before: only while the one before last was sent less than a second ago is anything handed out. (The
 * one before last, since the server tells of changes at the end of the turn in which it answers.) When the channel
 * breaks, everything is forgotten.
 *
 * The channel is worth something only where the application's client is: on the same server, and that a master. After a
 * failover either of the two may be on a server that nobody else speaks to any more, and that answers all the same. So
 * when the client's connection breaks, everything is forgotten; when it has another, so gets the channel; and a new
 * channel asks both, once, which server it is (`run_id` of INFO server), since a connection never leads to another.
 * A server can cease to be the master: so with each sign of life (PING, on the channel) the client is asked for its ROLE.
 * These are two small commands, four times a second in each process.
 */
export class NearCache {
  readonly #records = new Map<string, SessionRecord>();
  /** Sessions that are being read: what changes meanwhile is not worth keeping. */
  readonly #reading = new Map<string, object>();
  readonly #maxSessions: number;
  /** What the server sees in front of the keys that commands name. */
  readonly #clientPrefix: string;
  readonly #prefix: string;
  readonly #client: Duplicable;
  readonly #channel: Channel;
  readonly #timer: NodeJS.Timeout;
  /** What the channel has been told since is all that there was; undefined while it is not known to be so. */
  #listening: object | undefined;
  /** The channel leads to another server than the client: when to try the next connection. */
  #searchAt: number | undefined;
  /** The attempt to listen that counts: the last one, unless a connection has broken since. */
  #attempt: object | undefined;
  /** All that was changed before this instant has been told of. */
  #toldUntil = -Infinity;
  #asking: number | undefined;

  /** @param prefix what the keys of sessions begin with */
  constructor(client: RedisClient, prefix: string, maxSessions: number) {
    if (client.nodes || typeof (client as Duplicable).duplicate !== 'function') {
      throw new SessionConfigurationError(
        'RedisStore cache',
        'it works with one server or Sentinel: in a cluster no server knows of all changes',
      );
    }
    this.#clientPrefix = client.options.keyPrefix ?? '';
    this.#prefix = this.#clientPrefix + prefix;
    this.#maxSessions = maxSessions;
    this.#client = client as Duplicable;
    this.#channel = this.#client.duplicate({
      // As version 3 has it, ioredis would have to hand out messages that it does not know.
      protocol: 2,
      replyMapping: 'legacy',
      enableAutoPipelining: false,
      autoResubscribe: false,
      lazyConnect: false,
      keyPrefix: '',
      maxRetriesPerRequest: 0,
      socketTimeout: SILENCE,
      retryStrategy: (attempt: number) => Math.min(50 * attempt, 2000),
    });
    this.#channel.on('error', () => {}); // without it everything is read from the server, which says what is wrong
    this.#channel.on('ready', () => void this.#listen());
    this.#channel.on('close', this.#deaf);
    this.#client.on('close', this.#deaf);
    this.#client.on('ready', this.#renew);
    this.#channel.on('messageBuffer', (_, keys) => this.#told(keys));
    this.#timer = outsideRequests(() => setInterval(() => void this.#ask(), HEARTBEAT)).unref();
  }

  /** A session, from here or from the server. */
  async read(
    key: string,
    readServer: () => Promise<SessionRecord | undefined>,
    now: number,
  ): Promise<SessionRecord | undefined> {
    if (!this.#isCurrent()) return readServer();
    const known = this.#records.get(key);
    if (known && known.expiresAt > now) return copyOf(known);
    const reading = this.#reading.get(key) ?? {};
    this.#reading.set(key, reading);
    const record = await readServer().catch((error: unknown) => {
      this.#reading.delete(key);
      throw error;
    });
    if (this.#reading.get(key) !== reading) return record;
    this.#reading.delete(key);
    if (record) this.#keep(key, copyOf(record));
    return record;
  }

  /** This process changes sessions: what it has been told of them is over, and so is what it reads meanwhile. */
  async changing<T>(keys: readonly string[], change: () => Promise<T>): Promise<T> {
    try {
      return await change();
    } finally {
      for (const key of keys) this.#forget(key);
    }
  }

  close(): void {
    clearInterval(this.#timer);
    this.#client.off('close', this.#deaf);
    this.#client.off('ready', this.#renew);
    this.#deaf();
    this.#channel.disconnect();
  }

  #isCurrent(): boolean {
    return this.#listening !== undefined && performance.now() - this.#toldUntil < BOUND;
  }

  #keep(key: string, record: SessionRecord): void {
    if (this.#records.size >= this.#maxSessions) {
      for (const oldest of this.#records.keys()) {
        this.#records.delete(oldest);
        break;
      }
    }
    this.#records.set(key, record);
  }

  #forget(key: string): void {
    this.#records.delete(key);
    this.#reading.delete(key);
  }

  #told(keys: readonly Buffer[] | null): void {
    if (!keys) return this.#forgetAll(); // FLUSHALL
    for (const key of keys) this.#forget(key.toString().slice(this.#clientPrefix.length));
  }

  #forgetAll(): void {
    this.#records.clear();
    this.#reading.clear();
  }

  /** The channel is ready. The client may not be: then it will be, and so will be another channel. */
  async #listen(): Promise<void> {
    if (this.#client.status !== 'ready') return;
    this.#deaf();
    const attempt = (this.#attempt = {});
    try {
      // Once subscribed, it may be asked for nothing but PING.
      const [self, server, clientServer, role] = await Promise.all([
        this.#channel.call('client', ['id']) as Promise<number>,
        serverOf(this.#channel),
        serverOf(this.#client),
        roleOf(this.#client),
      ]);
      await this.#channel.call('client', [
        'tracking',
        'on',
        'redirect',
        String(self),
        'bcast',
        'prefix',
        this.#prefix,
      ]);
      await this.#channel.call('subscribe', [INVALIDATIONS]);
      if (this.#attempt !== attempt) return; // one of the two has another connection by now
      if (server === clientServer && role === 'master') this.#listening = attempt;
      else this.#searchAt = performance.now() + SEARCH;
    } catch (error) {
      if (this.#attempt !== attempt) return; // the next connection will be asked again
      process.emitWarning(
        `RedisStore keeps no cache: the server has refused CLIENT TRACKING, INFO or ROLE (${(error as Error).message}).`,
        { code: 'NEST_SESSION_REDIS_CACHE' },
      );
    }
  }

  /** Nothing is known, nor handed out, until the channel listens again. */
  readonly #deaf = (): void => {
    this.#attempt = undefined;
    this.#listening = undefined;
    this.#searchAt = undefined;
    this.#toldUntil = -Infinity;
    this.#asking = undefined;
    this.#forgetAll();
  };

  /** Another connection for the channel; one that is on its way will do. */
  readonly #renew = (): void => {
    this.#deaf();
    if (this.#channel.status === 'ready') this.#channel.disconnect(true);
  };

  async #ask(): Promise<void> {
    const now = performance.now();
    if (this.#searchAt !== undefined && this.#searchAt <= now) return this.#renew();
    const listening = this.#listening;
    if (!listening) return;
    try {
      const [role] = await Promise.all([roleOf(this.#client), this.#channel.call('ping', [])]);
      if (this.#listening !== listening) return;
      if (role !== 'master') return this.#renew();
      if (this.#asking !== undefined) this.#toldUntil = this.#asking;
      this.#asking = now;
    } catch {
      // The connection has broken, and 'close' has seen to that.
    }
  }
}

async function roleOf(connection: RedisClient): Promise<string> {
  const [role] = (await connection.call('role', [])) as string[];
  return role;
}

/** Which server answers: another after each start of it. */
async function serverOf(connection: RedisClient): Promise<string> {
  const [, server] = /^run_id:(\w+)/m.exec(String(await connection.call('info', ['server']))) ?? [];
  if (server === undefined) throw new Error('INFO server has no run_id');
  return server;
}

function copyOf(record: SessionRecord): SessionRecord {
  return { ...record, fields: new Map(record.fields) };
}
