import { fork } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { RedisServer } from '../stores/redis/support/redis-server.js';
import { type Adapter, adapters } from '../support/app.js';
import { SolidbServer } from '../support/solidb-server.mjs';

const PATHS = [
  'read',
  'write',
  'object',
  'login',
  'logout',
  'late',
  'fails',
  'file',
  'stream',
  'events',
  'nowhere',
];
const REQUESTS = 1000;
const CONNECTIONS = 16;
/** A server that has not answered for so long has stopped. */
const STOPPED = 60_000;

interface State {
  readonly errors: readonly string[];
  readonly heap: number;
  readonly resources: number;
}

/** Chance that repeats itself. */
function chance(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

class ChaosServer {
  private constructor(
    private readonly child: ReturnType<typeof fork>,
    readonly port: number,
  ) {}

  static async start(settings: { adapter: Adapter; store: string; url?: string }): Promise<ChaosServer> {
    const script = fileURLToPath(new URL('../model/chaos-server.mjs', import.meta.url));
    const child = fork(script, [JSON.stringify(settings)], {
      execArgv: ['--expose-gc', '--max-old-space-size=512'],
    });
    const [{ port }] = (await once(child, 'message')) as [{ port: number }];
    return new ChaosServer(child, port);
  }

  async state(): Promise<State> {
    const answered = once(this.child, 'message');
    this.child.send('state');
    return ((await this.within(answered)) as [State])[0];
  }

  /** The server answers while everything else goes on, or has stopped. */
  async within<T>(answer: Promise<T>): Promise<T> {
    let watchdog: NodeJS.Timeout | undefined;
    const stopped = new Promise<never>((_, reject) => {
      watchdog = setTimeout(() => reject(new Error('the server has stopped answering')), STOPPED);
    });
    try {
      return await Promise.race([answer, stopped]);
    } finally {
      clearTimeout(watchdog);
    }
  }

  async stop(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.disconnect();
    const watchdog = setTimeout(() => this.child.kill('SIGKILL'), STOPPED);
    await ended;
    clearTimeout(watchdog);
  }
}

/** Everything a server may be sent on one connection, cut wherever chance has it. */
async function attack(port: number, next: (below: number) => number, cookies: string[]): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  let received = 0;
  let tail = '';
  const closed = new Promise((resolve) => socket.on('close', resolve));
  const cutAfter = next(3) === 0 ? Infinity : next(600);
  socket.on('error', () => {});
  socket.on('data', (data: Buffer) => {
    const cookie = /^Set-Cookie: (session_id=[^;]+)/im.exec(String(data))?.[1];
    if (cookie) cookies[next(40)] = cookie;
    received += data.length;
    tail = (tail + String(data)).slice(-7);
    // Nest keeps the connection of an event stream whatever the client asks for.
    if (received > cutAfter || tail === '\r\n0\r\n\r\n') socket.destroy();
  });
  const pipelined = next(3) === 0 ? 1 + next(5) : 1;
  let bytes = '';
  for (let count = 0; count < pipelined; count++) {
    const cookie = cookies[next(40)];
    const last = count === pipelined - 1;
    bytes +=
      `GET /${PATHS[next(PATHS.length)]} HTTP/1.1\r\nHost: test\r\nConnection: ${last ? 'close' : 'keep-alive'}\r\n` +
      `${cookie ? `Cookie: ${cookie}\r\n` : ''}\r\n`;
  }
  const isCut = next(4) === 0;
  socket.write(isCut ? bytes.slice(0, next(bytes.length)) : bytes, () => {
    if (isCut || next(4) === 0) socket.destroy();
  });
  await closed;
}

async function alive(port: number): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${port}/read`, { headers: { connection: 'close' } });
  expect(response.status).toBe(200);
  expect(await response.json()).toEqual({ count: 0 });
}

async function storm(server: ChaosServer, seed: number): Promise<void> {
  const next = chance(seed);
  const cookies: string[] = [];
  let sent = 0;
  const state = { isOver: false };
  const attackers = Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      while (sent++ < REQUESTS) await server.within(attack(server.port, next, cookies));
    }),
  ).finally(() => (state.isOver = true));
  while (!state.isOver) await server.within(alive(server.port));
  await attackers;
}

describe.each(adapters)('on %s, thousands of clients that hang up, cut in or pipeline', (adapter) => {
  it.each(['memory', 'later', 'file', 'redis', 'solidb'])(
    'do not stop a server, nor leave anything behind: %s',
    async (store) => {
      const redis = store === 'redis' ? await RedisServer.start() : undefined;
      const solidb =
        store === 'solidb'
          ? new SolidbServer('v2.1', { apiKeys: ['sk_test'], requestsPerMinute: 0 })
          : undefined;
      await solidb?.start();
      const url = redis ? `redis://127.0.0.1:${redis.port}` : solidb?.url;
      const server = await ChaosServer.start({ adapter, store, url });
      try {
        // The first storm brings the caches, pools and compiled code that stay.
        await storm(server, 1);
        const before = await server.state();
        await storm(server, 2);
        await storm(server, 3);
        const after = await server.state();
        await server.within(alive(server.port));
        expect(after.errors).toEqual([]);
        expect(after.resources).toBeLessThanOrEqual(before.resources);
        // 2 000 requests: what only a hundred of them left would be seen. Sessions themselves are a kilobyte each.
        expect(after.heap - before.heap).toBeLessThan(8e6);
      } finally {
        await server.stop();
        await solidb?.stop();
        await redis?.stop();
      }
    },
    600_000,
  );
});
