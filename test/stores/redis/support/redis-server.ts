import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';

/** A redis-server of its own, on a free port, in a temporary folder. */
export class RedisServer {
  readonly directory = mkdtempSync(join(tmpdir(), 'nest-session-redis-'));
  #process!: ChildProcess;
  #admin: Redis | undefined;
  #configuration: readonly string[] = [];
  #settings: readonly string[] = [];

  private constructor(
    readonly port: number,
    private readonly isSentinel: boolean,
  ) {}

  /** @param settings as on the command line: `'--appendonly', 'yes'` */
  static async start(...settings: string[]): Promise<RedisServer> {
    const server = new RedisServer(await freePort(), false);
    // prettier-ignore
    server.#settings = ['--save', '', '--repl-diskless-sync-delay', '0',
      '--user', 'admin', 'on', 'nopass', '~*', '&*', '+@all', ...settings];
    await server.restart();
    return server;
  }

  /** @param configuration what the sentinel is to begin with, and writes to */
  static async startSentinel(configuration: string): Promise<RedisServer> {
    const sentinel = new RedisServer(await freePort(), true);
    const file = join(sentinel.directory, 'sentinel.conf');
    writeFileSync(file, configuration);
    sentinel.#configuration = [file];
    sentinel.#settings = ['--sentinel'];
    await sentinel.restart();
    return sentinel;
  }

  /** Starts it, or starts it again, on the same port and with what it has saved. */
  async restart(): Promise<void> {
    await this.launch();
    await this.admin.ping();
  }

  /** Starts it and does not wait until it answers. */
  async launch(): Promise<void> {
    // prettier-ignore
    const where = ['--port', `${this.port}`, '--bind', '127.0.0.1', '--dir', this.directory,
      '--logfile', join(this.directory, 'log')];
    this.#process = spawn('redis-server', [...this.#configuration, ...where, ...this.#settings], {
      stdio: 'ignore',
    });
    await once(this.#process, 'spawn');
  }

  /** A connection for the test itself, which may do everything. */
  get admin(): Redis {
    if (!this.#admin) {
      this.#admin = new Redis({
        port: this.port,
        ...(!this.isSentinel && { username: 'admin', password: 'any' }),
        disconnectTimeout: 50,
        retryStrategy: () => 20,
        maxRetriesPerRequest: 500,
      });
      this.#admin.on('error', () => {});
    }
    return this.#admin;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.#process.pid as number;
  }

  get log(): string {
    return readFileSync(join(this.directory, 'log'), 'utf8');
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    process.kill(this.pid, signal);
  }

  /** Ends it at once, as a crash would; its files stay. */
  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await ended;
  }

  /** Ends it for good. */
  async stop(): Promise<void> {
    this.#admin?.disconnect();
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Every key without a time to live. */
  async immortalKeys(): Promise<string[]> {
    const keys = await this.admin.keys('*');
    const lives = await Promise.all(keys.map((key) => this.admin.pttl(key)));
    return keys.filter((_, position) => lives[position] === -1);
  }
}

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  // The bus of a cluster's node is 10 000 above.
  return port < 55_000 ? port : freePort();
}
