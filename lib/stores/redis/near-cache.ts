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

const INVALIDATIONS = '__redis__:invalidate';

/** A connection of our own beside the application's. */
interface Channel extends RedisClient {
  on(event: 'ready' | 'close' | 'error', listener: () => void): unknown;
  on(event: 'messageBuffer', listener: (channel: Buffer, keys: readonly Buffer[] | null) => void): unknown;
  disconnect(): void;
}

interface Duplicable extends RedisClient {
  duplicate(options: object): Channel;
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
 */
export class NearCache {
  readonly #records = new Map<string, SessionRecord>();
  /** Sessions that are being read: what changes meanwhile is not worth keeping. */
  readonly #reading = new Map<string, object>();
  readonly #maxSessions: number;
  /** What the server sees in front of the keys that commands name. */
  readonly #clientPrefix: string;
  readonly #prefix: string;
  readonly #channel: Channel;
  readonly #timer: NodeJS.Timeout;
  #listens = false;
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
    this.#channel = (client as Duplicable).duplicate({
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
    this.#channel.on('close', () => this.#deaf());
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
    this.#deaf();
    this.#channel.disconnect();
  }

  #isCurrent(): boolean {
    return this.#listens && performance.now() - this.#toldUntil < BOUND;
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

  async #listen(): Promise<void> {
    try {
      const self = String(await this.#channel.call('client', ['id']));
      await this.#channel.call('client', [
        'tracking',
        'on',
        'redirect',
        self,
        'bcast',
        'prefix',
        this.#prefix,
      ]);
      await this.#channel.call('subscribe', [INVALIDATIONS]);
      this.#forgetAll();
      this.#listens = true;
      this.#asking = undefined;
    } catch (error) {
      if (this.#channel.status !== 'ready') return; // the next connection will be asked again
      process.emitWarning(
        `RedisStore keeps no cache: the server has refused CLIENT TRACKING (${(error as Error).message}).`,
        { code: 'NEST_SESSION_REDIS_CACHE' },
      );
    }
  }

  #deaf(): void {
    this.#listens = false;
    this.#toldUntil = -Infinity;
    this.#asking = undefined;
    this.#forgetAll();
  }

  async #ask(): Promise<void> {
    if (!this.#listens) return;
    const now = performance.now();
    try {
      await this.#channel.call('ping', []);
      if (!this.#listens) return;
      if (this.#asking !== undefined) this.#toldUntil = this.#asking;
      this.#asking = now;
    } catch {
      // The connection has broken, and 'close' has seen to that.
    }
  }
}

function copyOf(record: SessionRecord): SessionRecord {
  return { ...record, fields: new Map(record.fields) };
}
