import { Deadlines } from '../../util/deadlines.js';
import type { RedisArgument, RedisClient } from './redis-client.js';
import type { Script } from './scripts.js';
import type { Pairs } from './session-hash.js';

/** Sends commands, each of which is answered or rejected within the timeout, whatever state the connection is in. */
export class RedisCommands {
  readonly #client: RedisClient;
  readonly timeout: number;
  /** Commands are to be looked through for keys. */
  readonly #findsKeys: boolean;
  readonly #deadlines: Deadlines;
  #ready: Promise<void> | undefined;
  #corked = false;

  /** @param timeout in milliseconds */
  constructor(client: RedisClient, timeout: number) {
    this.#client = client;
    this.timeout = timeout;
    this.#deadlines = new Deadlines(timeout);
    this.#findsKeys = this.isCluster || Boolean(client.options.keyPrefix);
  }

  /**
   * A command sent while there is no connection would wait in ioredis's queue, and be carried out after its request
   * was refused. So it waits here, and is sent in time or not at all.
   */
  run(command: string, args: RedisArgument[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const deadline = this.#deadlines.add(() =>
        reject(new Error(`Redis gave no answer to ${command.toUpperCase()} within ${this.timeout} ms`)),
      );
      const fail = (error: unknown): void => {
        this.#deadlines.delete(deadline);
        reject(error as Error);
      };
      const send = (): void => {
        if (!deadline.waits) return;
        this.#cork();
        this.#client.call(command, args).then((reply) => {
          this.#deadlines.delete(deadline);
          resolve(reply);
        }, fail);
      };
      const { status } = this.#client;
      // A client that was closed for good says so itself.
      if (status === 'ready' || status === 'end') send();
      else this.#connected().then(send, fail);
    });
  }

  /**
   * All of a hash, as pairs. By its name in capitals, ioredis hands out the reply as it came; otherwise it makes an
   * object of it first, which takes longer than all else that is done to it here. But many a version 5 does not see
   * that such a command has a key, which clusters and a `keyPrefix` need.
   */
  async hash(key: string): Promise<Pairs> {
    const reply = await this.run(this.#findsKeys ? 'hgetall' : 'HGETALL', [key]);
    return Array.isArray(reply) ? reply : Object.entries(reply as Record<string, string>).flat();
  }

  /** Runs a script by its hash, or by its text on a server that does not know it: a new one, or after SCRIPT FLUSH. */
  async script({ sha, lua }: Script, keys: string[], args: RedisArgument[]): Promise<unknown> {
    try {
      return await this.run('evalsha', [sha, keys.length, ...keys, ...args]);
    } catch (error) {
      if (!isReply(error, /^NOSCRIPT/)) throw error;
      return this.run('eval', [lua, keys.length, ...keys, ...args]);
    }
  }

  /** Every master of a cluster, or the one server. */
  async masters(): Promise<RedisCommands[]> {
    if (!this.#client.nodes) return [this];
    await this.run('ping', []); // the client knows its nodes by then
    return this.#client.nodes('master').map((node) => new RedisCommands(node, this.timeout));
  }

  /** Whether keys may lie on different servers, so that no script may touch two of them. */
  get isCluster(): boolean {
    return this.#client.nodes !== undefined;
  }

  /** Whether the server runs scripts, and runs them atomically, which SoliKV does not. */
  async canScript(): Promise<boolean> {
    const info = await this.#unlessRefused('info', []);
    if (typeof info === 'string' && info.includes('solikv_version:')) return false;
    return (await this.#unlessRefused('eval', ['return 1', 0])) !== undefined;
  }

  async #unlessRefused(command: string, args: RedisArgument[]): Promise<unknown> {
    try {
      return await this.run(command, args);
    } catch (error) {
      if (isReply(error, /^NOPERM|unknown command/i)) return undefined;
      throw error;
    }
  }

  /** What is sent in one turn of the event loop leaves in one write, which costs more than all that is done here. */
  #cork(): void {
    const { stream } = this.#client;
    if (this.#corked || !stream) return;
    this.#corked = true;
    stream.cork();
    setImmediate(() => {
      this.#corked = false;
      stream.uncork();
    });
  }

  /** One listener for everybody who waits. */
  #connected(): Promise<void> {
    return (this.#ready ??= new Promise<void>((resolve) => {
      this.#client.once('ready', () => {
        this.#ready = undefined;
        resolve();
      });
      if (this.#client.status === 'wait') this.#client.connect().catch(() => {});
    }));
  }
}

/** Whether an error is an answer of the server's that says this. */
export function isReply(error: unknown, says: RegExp): boolean {
  return error instanceof Error && error.name === 'ReplyError' && says.test(error.message);
}
