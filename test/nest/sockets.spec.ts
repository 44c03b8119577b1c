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
import { type Adapter, type Browser, onBothAdapters, type Served, serve } from '../support/app.js';
import { serveTlsProxy, type TlsProxy } from '../support/tls-proxy.js';

/** What happens between opening a session and tracking it. */
let beforeTrack: () => Promise<void> | undefined = () => undefined;

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
    // Tells the test that the socket is being looked after, and whose it is.
    const { send } = client as unknown as { send(text: string): void };
    send.call(client, session.userId ?? 'nobody');
  }
}

/** How the proxy and the application are set up, and what our own pages are then to the application. */
interface Behind {
  readonly situation: string;
  readonly trustProxy: boolean;
  readonly cookie: SessionModuleOptions['cookie'];
  readonly headers: (host: string) => Record<string, string>;
  /** The scheme by which the session's cookie is named. */
  readonly own: 'https' | 'http';
}

const behind: readonly Behind[] = [
  {
    situation: 'that is trusted',
    trustProxy: true,
    cookie: {},
    headers: () => ({ 'X-Forwarded-Proto': 'https' }),
    own: 'https',
  },
  {
    situation: 'that is trusted and names the scheme of the socket',
    trustProxy: true,
    cookie: {},
    headers: () => ({ 'X-Forwarded-Proto': 'WSS' }),
    own: 'https',
  },
  {
    situation: 'that is trusted and changes the Host',
    trustProxy: true,
    cookie: {},
    headers: (host) => ({ 'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': host, host: 'backend:3000' }),
    own: 'https',
  },
  {
    situation: 'that nobody told the adapter of, with a Secure cookie',
    trustProxy: false,
    cookie: { secure: true },
    headers: () => ({}),
    own: 'https',
  },
  {
    situation: 'that nobody told the adapter of, with a cookie that is not Secure',
    trustProxy: false,
    cookie: {},
    headers: () => ({ 'X-Forwarded-Proto': 'https' }),
    own: 'http',
  },
];

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
  /** What the gateway says when it has seen it. */
  readonly greeting: string;
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
    const socket = new WebSocket(`${url.replace('http', 'ws')}/news`, { headers, rejectUnauthorized: false });
    const closed = new Promise((resolve) => void socket.once('close', resolve));
    const [greeting] = (await once(socket, 'message')) as [Buffer];
    return { greeting: greeting.toString(), closed, close: () => socket.terminate() };
  }
  const socket = io(url, {
    path: '/news',
    extraHeaders: headers,
    transports: ['websocket'],
    forceNew: true,
    rejectUnauthorized: false,
  });
  socket.io.reconnection(false);
  const closed = new Promise((resolve) => void socket.once('disconnect', resolve));
  const greeting = await new Promise<string>((resolve, reject) => {
    socket.once('message', resolve);
    socket.once('connect_error', reject);
  });
  return { greeting, closed, close: () => void socket.close() };
}

function serveNews(
  adapter: Adapter,
  carrier: 'ws' | 'socket.io',
  { trustProxy, ...options }: Partial<SessionModuleOptions> & { trustProxy?: boolean } = {},
): Promise<Served> {
  return serve(adapter, {
    controllers: [AccountController],
    providers: [NewsGateway],
    options: { csrf: { trustedOrigins: ['https://partner.example'] }, ...options },
    trustProxy,
    prepare: (app) =>
      app.useWebSocketAdapter(carrier === 'ws' ? new CheckedWsAdapter(app) : new CheckedIoAdapter(app)),
  });
}

onBothAdapters((adapter) => {
  describe.each(['ws', 'socket.io'] as const)('with %s', (carrier) => {
    let served: Served;
    let browser: Browser;
    let id: string;
    const clients: Client[] = [];

    async function start(options: Partial<SessionModuleOptions> = {}) {
      served = await serveNews(adapter, carrier, options);
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

    describe.each(behind.map((one) => [one.situation, one] as const))(
      'behind a proxy %s',
      (_situation, one) => {
        let application: Served;
        let proxy: TlsProxy;
        let cookie: string;
        beforeAll(async () => {
          application = await serveNews(adapter, carrier, { trustProxy: one.trustProxy, cookie: one.cookie });
          proxy = await serveTlsProxy(application.url, one.headers);
          const visitor = application.browser();
          await visitor.post('/login').set('X-Forwarded-Proto', 'https');
          cookie = visitor.cookie as string;
        });
        afterAll(() => Promise.all([application, proxy].map((server) => server?.close())));

        const handshake = (headers: Record<string, string>) =>
          connect(carrier, proxy.url, { Cookie: cookie, ...headers });
        const http = () => proxy.url.replace('https', 'http');
        const own = () => (one.own === 'https' ? proxy.url : http());
        const refusal = /websocket error|Unexpected server response: 40[13]/;

        it.each<[string, () => Record<string, string>]>([
          ['our own origin', () => ({ Origin: own() })],
          ['our own origin, as the browser says', () => ({ Origin: own(), 'Sec-Fetch-Site': 'same-origin' })],
          [
            'a trusted origin on another site',
            () => ({ Origin: 'https://partner.example', 'Sec-Fetch-Site': 'cross-site' }),
          ],
        ])('lets in %s, with its session', async (_whose, headers) => {
          const client = await handshake(headers());
          expect(client.greeting).toBe('alice');
          client.close();
        });

        it.each<[string, () => Record<string, string>]>([
          [
            'our own host over the other scheme',
            () => ({ Origin: one.own === 'https' ? http() : proxy.url }),
          ],
          [
            'what the browser says is on another site',
            () => ({ Origin: own(), 'Sec-Fetch-Site': 'cross-site' }),
          ],
          [
            'what it says is on another host or port',
            () => ({ Origin: own(), 'Sec-Fetch-Site': 'same-site' }),
          ],
          [
            'what it says two things of',
            () => ({ Origin: own(), 'Sec-Fetch-Site': 'same-origin, cross-site' }),
          ],
          ['nobody, whatever it says', () => ({ 'Sec-Fetch-Site': 'same-origin' })],
          ['an opaque origin, whatever it says', () => ({ Origin: 'null', 'Sec-Fetch-Site': 'same-origin' })],
        ])('refuses %s', async (_whose, headers) => {
          await expect(handshake(headers())).rejects.toThrow(refusal);
        });

        if (one.own === 'https') {
          it('refuses our own host over plain HTTP, whatever the browser says', async () => {
            const headers = { Origin: http(), 'Sec-Fetch-Site': 'same-origin' };
            await expect(handshake(headers)).rejects.toThrow(refusal);
          });
        }
      },
    );

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
