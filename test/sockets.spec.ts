import { Controller, Get, type INestApplication, Post } from '@nestjs/common';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { WsAdapter } from '@nestjs/platform-ws';
import { type OnGatewayConnection, WebSocketGateway } from '@nestjs/websockets';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { io } from 'socket.io-client';
import {
  CsrfService,
  MemoryStore,
  Session,
  SessionManager,
  type SessionModuleOptions,
  type SessionSocket,
  SessionSockets,
} from 'nest-session';
import { WebSocket } from 'ws';
import { type Browser, onBothAdapters, type Served, serve } from './support/app.js';

/** What happens between opening a session and tracking it. */
let beforeTrack: () => Promise<void> | undefined;

/** Something to wait for, and what ends the wait. */
function gate() {
  let open = (): void => {};
  const passed = new Promise<void>((resolve) => (open = resolve));
  return { open, passed };
}

@Controller()
class AccountController {
  @Get('read')
  read(@Session() session: Session) {
    return { userId: session.userId };
  }

  @Post('login')
  async login(@Session() session: Session) {
    await session.login('alice');
    return { id: session.id };
  }

  @Post('regenerate')
  async regenerate(@Session() session: Session) {
    await session.regenerate();
  }

  @Post('logout')
  async logout(@Session() session: Session) {
    await session.logout();
  }
}

@WebSocketGateway({ path: '/news' })
class NewsGateway implements OnGatewayConnection {
  constructor(
    private readonly sessions: SessionManager,
    private readonly sockets: SessionSockets,
  ) {}

  async handleConnection(client: SessionSocket & { request?: IncomingMessage }, request?: IncomingMessage) {
    const session = await this.sessions.open((client.request ?? request) as IncomingMessage);
    await beforeTrack();
    this.sockets.track(session, client);
    // Tells the test that the socket is being looked after.
    const { send } = client as unknown as { send(text: string): void };
    send.call(client, 'tracked');
  }
}

/** The two lines that check handshakes, for each library. */
class CheckedIoAdapter extends IoAdapter {
  constructor(private readonly app: INestApplication) {
    super(app);
  }

  override createIOServer(port: number, options?: object) {
    const csrf = this.app.get(CsrfService);
    const allowRequest = (request: IncomingMessage, done: (error: null, ok: boolean) => void): void =>
      done(null, csrf.allowsHandshake(request));
    return super.createIOServer(port, { ...options, allowRequest } as never);
  }
}

class CheckedWsAdapter extends WsAdapter {
  constructor(private readonly app: INestApplication) {
    super(app);
  }

  override create(port: number, options?: object) {
    const csrf = this.app.get(CsrfService);
    const verifyClient = ({ req }: { req: IncomingMessage }): boolean => csrf.allowsHandshake(req);
    return super.create(port, { ...options, verifyClient } as never);
  }
}

interface Client {
  /** Settles when the server has closed the socket. */
  readonly closed: Promise<unknown>;
  close(): void;
}

/** Connects and waits until the gateway has seen it; rejects when the handshake is refused. */
async function connect(
  carrier: 'ws' | 'socket.io',
  url: string,
  headers: Record<string, string>,
): Promise<Client> {
  if (carrier === 'ws') {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/news`, { headers });
    const closed = new Promise((resolve) => void socket.once('close', resolve));
    await once(socket, 'message');
    return { closed, close: () => socket.terminate() };
  }
  const socket = io(url, { path: '/news', extraHeaders: headers, transports: ['websocket'], forceNew: true });
  socket.io.reconnection(false);
  const closed = new Promise((resolve) => void socket.once('disconnect', resolve));
  await new Promise<void>((resolve, reject) => {
    socket.once('message', () => resolve());
    socket.once('connect_error', reject);
  });
  return { closed, close: () => void socket.close() };
}

onBothAdapters((adapter) => {
  describe.each(['ws', 'socket.io'] as const)('with %s', (carrier) => {
    let served: Served;
    let browser: Browser;
    let id: string;
    const clients: Client[] = [];

    async function start(options: Partial<SessionModuleOptions> = {}) {
      served = await serve(adapter, {
        controllers: [AccountController],
        providers: [NewsGateway],
        options: { csrf: { trustedOrigins: ['https://partner.example'] }, ...options },
        prepare: (app) =>
          app.useWebSocketAdapter(carrier === 'ws' ? new CheckedWsAdapter(app) : new CheckedIoAdapter(app)),
      });
      browser = served.browser();
      ({ id } = (await browser.post('/login')).body);
    }

    beforeEach(() => {
      beforeTrack = () => undefined;
      return start();
    });
    afterEach(async () => {
      for (const client of clients.splice(0)) client.close();
      await served.close();
    });

    async function open(headers: Record<string, string> = {}): Promise<Client> {
      const client = await connect(carrier, served.url, {
        Origin: served.url,
        Cookie: browser.cookie as string,
        ...headers,
      });
      clients.push(client);
      return client;
    }

    describe('a handshake', () => {
      it.each([
        ['our own origin', () => served.url],
        ['a trusted origin', () => 'https://partner.example'],
      ])('from %s is let in', async (_, origin) => {
        await expect(open({ Origin: origin() })).resolves.toBeDefined();
      });

      it.each([
        ['another origin', () => 'https://evil.example'],
        ['our host on another port', () => 'http://127.0.0.1:1'],
        ['our host over https', () => served.url.replace('http', 'https')],
        ['an opaque origin', () => 'null'],
        ['a trusted host over http', () => 'http://partner.example'],
        ['two origins', () => `${served.url}, ${served.url}`],
        ['nowhere', () => ''],
      ])('from %s is refused', async (_, origin) => {
        await expect(open({ Origin: origin() })).rejects.toThrow(
          /websocket error|Unexpected server response: 40[13]/,
        );
      });
    });

    describe('a socket is closed when its session', () => {
      it.each<[string, () => unknown]>([
        ['logs out', () => browser.copy().post('/logout')],
        ['is revoked', () => served.sessions.revoke(id)],
        ['is ended with all others', () => served.sessions.clear()],
        ['is in a store that is no longer in use', () => served.sessions.useStore(new MemoryStore())],
        ['gets another id', () => browser.copy().post('/regenerate')],
        [
          'is found to have expired',
          () => {
            served.clock.pass(100_000);
            return browser.copy().post('/regenerate');
          },
        ],
      ])('%s', async (_, end) => {
        const [one, two] = [await open(), await open()];
        await end();
        await Promise.all([one.closed, two.closed]);
        expect(await served.sessions.find(id)).toBeUndefined();
      });

      it('had ended before it was tracked', async () => {
        const [opened, track] = [gate(), gate()];
        beforeTrack = () => {
          opened.open();
          return track.passed;
        };
        const opening = open();
        await opened.passed;
        // In another process: nothing is said of it here.
        expect(await served.store.inner.destroy(id)).toBe(true);
        track.open();
        const client = await opening;
        await client.closed;
      });

      it('and not when another’s does', async () => {
        const other = served.browser();
        await other.post('/login');
        const client = await open();
        let closed = false;
        void client.closed.then(() => (closed = true));
        await other.post('/logout');
        // Connected later, told later: had the first been closed, it would know by now.
        await open();
        expect(closed).toBe(false);
      });
    });

    describe('without a word of its end, a socket', () => {
      // So often the store is asked: each tenth of maxAge.
      beforeEach(async () => {
        await served.close();
        await start({ maxAge: 5 });
      });

      /** Waits until the store is asked for the session, by nobody but the one who looks after sockets. */
      async function looked(): Promise<void> {
        for (let times = 0; times < 2; times++) {
          const look = served.store.hold('load');
          await look.reached;
          look.release();
        }
      }

      it('is closed when its session expires, and not while it is extended', async () => {
        const client = await open();
        let closed = false;
        void client.closed.then(() => (closed = true));
        served.clock.pass(4);
        await browser.get('/read');
        served.clock.pass(4);
        await looked();
        expect(closed).toBe(false);
        served.clock.pass(2);
        await client.closed;
      });

      it('is closed when another process has ended the session', async () => {
        const client = await open();
        await looked();
        expect(await served.store.inner.destroy(id)).toBe(true);
        await client.closed;
      });

      it('stays while the store cannot be reached, until the end that is known', async () => {
        const client = await open();
        let closed = false;
        void client.closed.then(() => (closed = true));
        await looked();
        served.store.fail('load');
        served.store.drain();
        while (served.store.calls.length < 2) await new Promise((resolve) => setImmediate(resolve));
        expect(closed).toBe(false);
        served.clock.pass(6);
        await client.closed;
      });
    });
  });
});
