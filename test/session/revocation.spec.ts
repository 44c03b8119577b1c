import { Body, Controller, Get, type INestApplication, Post, Res, UseInterceptors } from '@nestjs/common';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { WsAdapter } from '@nestjs/platform-ws';
import { Field, ObjectType, Query, ResolveField, Resolver, Subscription } from '@nestjs/graphql';
import { SubscribeMessage, WebSocketGateway, type OnGatewayConnection } from '@nestjs/websockets';
import { once } from 'node:events';
import { get, type IncomingMessage, type ServerResponse } from 'node:http';
import {
  MemoryStore,
  Session,
  SessionInterceptor,
  SessionManager,
  type SessionSocket,
  SessionSockets,
} from 'nest-session';
import { type Adapter, adapters, type Browser, type Served, serve } from '../support/app.js';
import { GraphqlSocket, type Transport, transports } from '../support/graphql-sockets.js';
import { connect } from '../support/sockets.js';

type Any = Session<any>;
type NestResponse = ServerResponse & { raw?: ServerResponse; hijack?(): void };

/** A place where a handler waits. */
interface Gate {
  readonly reached: Promise<void>;
  readonly passed: Promise<void>;
  reach(): void;
  open(): void;
}

/** Events for a subscription. */
class Ticker {
  readonly #events: object[] = [];
  #wake = (): void => {};

  send(event: object): void {
    this.#events.push(event);
    this.#wake();
  }

  /** Ends when its reader returns it, as GraphQL does when the subscription is over. */
  async *events(): AsyncGenerator<object> {
    for (;;) {
      const event = this.#events.shift();
      if (event) yield { ticks: event };
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

let ticker = new Ticker();

@ObjectType()
class Tick {
  @Field(() => String, { nullable: true })
  reader?: string;
}

@Resolver(() => Tick)
class TickResolver {
  @Query(() => String, { nullable: true })
  whoami(@Session('userId') userId?: string) {
    return userId;
  }

  @Subscription(() => Tick)
  ticks() {
    return ticker.events();
  }

  @ResolveField(() => String, { nullable: true })
  reader(@Session('userId') userId?: string) {
    return userId;
  }
}

function gate(): Gate {
  let [reach, open] = [(): void => {}, (): void => {}];
  const reached = new Promise<void>((resolve) => (reach = resolve));
  const passed = new Promise<void>((resolve) => (open = resolve));
  return { reached, passed, reach, open };
}

let handler = gate();

@Controller()
class AccountController {
  constructor(private readonly sockets: SessionSockets) {}

  @Post('login')
  async login(@Session() session: Any, @Body('as') as: string) {
    await session.login(as);
    return { id: session.id };
  }

  @Post('logout')
  async logout(@Session() session: Any) {
    await session.logout();
  }

  @Post('regenerate')
  async regenerate(@Session() session: Any) {
    await session.regenerate();
  }

  @Get('whoami')
  whoami(@Session() session: Any) {
    return { user: session.userId ?? null };
  }

  /** Reads, waits, and writes. */
  @Get('slow')
  async slow(@Session() session: Any) {
    const user = session.userId;
    handler.reach();
    await handler.passed;
    session.set('late', true);
    return { user };
  }

  /** A stream that goes on until somebody ends it. */
  @Get('tracked')
  tracked(@Session() session: Any, @Res() response: NestResponse) {
    response.hijack?.();
    const raw = response.raw ?? response;
    this.sockets.track(session, raw);
    raw.writeHead(200, { 'Content-Type': 'text/event-stream' });
    raw.write(': begun\n\n');
    // A writer that does not look whether somebody has ended its stream.
    const timer = setInterval(() => raw.write(': and on\n\n'), 20);
    raw.on('close', () => clearInterval(timer));
  }

  /** A stream that writes to the session when it has been open for a long time. */
  @Get('stream')
  async stream(@Session() session: Any, @Res() response: NestResponse) {
    response.hijack?.();
    const raw = response.raw ?? response;
    raw.writeHead(200, { 'Content-Type': 'text/event-stream' });
    raw.write(': begun\n\n');
    handler.reach();
    await handler.passed;
    session.set('late', true);
    raw.end(': ended\n\n');
  }
}

@WebSocketGateway({ path: '/chat' })
@UseInterceptors(SessionInterceptor)
class ChatGateway {
  @SubscribeMessage('whoami')
  whoami(@Session() session: Any) {
    return { event: 'answer', data: session.userId ?? null };
  }
}

@WebSocketGateway({ path: '/tracked' })
class TrackedGateway implements OnGatewayConnection {
  constructor(
    private readonly sessions: SessionManager,
    private readonly sockets: SessionSockets,
  ) {}

  async handleConnection(client: SessionSocket & { request?: IncomingMessage }, request?: IncomingMessage) {
    this.sockets.track(await this.sessions.open((client.request ?? request) as IncomingMessage), client);
    (client as unknown as { send(text: string): void }).send('{"event":"tracked"}');
  }
}

/** Everything that a way of ending a session may use. */
interface Scene {
  readonly adapter: Adapter;
  readonly served: Served;
  readonly browser: Browser;
  readonly id: string;
}

/** The ways by which a session ends. Each of them has a column in docs/revocation.md. */
const ENDS: Readonly<Record<string, (scene: Scene) => unknown>> = {
  logout: ({ browser }) => browser.copy().post('/logout'),
  'revoke()': ({ served, id }) => served.sessions.revoke(id),
  'revokeByUser()': ({ served }) => served.sessions.revokeByUser('alice'),
  'the limit per user': ({ served }) => served.browser().post('/login', { as: 'alice' }),
  'a new id': ({ browser }) => browser.copy().post('/regenerate'),
  'idle expiry': ({ served }) => served.clock.pass(11),
  'absolute expiry': async ({ served, browser }) => {
    served.clock.pass(8);
    await browser.copy().get('/whoami');
    served.clock.pass(8);
  },
  'clear()': ({ served }) => served.sessions.clear(),
  'useStore()': ({ served }) => served.sessions.useStore(new MemoryStore({ clock: served.clock.read })),
  'another process': (scene) => elsewhere(scene),
  'another process, while the store fails': async (scene) => {
    scene.served.store.fail('load', 'commit', 'touch');
    await elsewhere(scene);
    scene.served.store.recover();
  },
};

/** A second application on the same store ends the session: nothing is heard of it in the first one. */
async function elsewhere({ adapter, served, id }: Scene): Promise<void> {
  const { inner } = served.store;
  const other = await serve(adapter, { controllers: [], options: { store: { ...bound(inner) } } });
  await other.sessions.revoke(id);
  await other.close();
}

/** A store whose close() leaves it open for others. */
function bound(store: Served['store']['inner']) {
  return {
    create: store.create.bind(store),
    load: store.load.bind(store),
    touch: store.touch.bind(store),
    commit: store.commit.bind(store),
    rotate: store.rotate.bind(store),
    destroy: store.destroy.bind(store),
  };
}

/** Somebody who has the session. `noticed` settles when the end has been noticed, as docs/revocation.md says. */
interface Held {
  noticed(): Promise<unknown>;
  close?(): unknown;
}

interface Holder {
  readonly sockets?: 'ws' | 'socket.io';
  /** GraphQL is served, too. */
  readonly graphql?: true;
  hold(scene: Scene): Promise<Held>;
}

/** The ways by which a session is held. Each of them has a row in docs/revocation.md. */
const HOLDERS: Readonly<Record<string, Holder>> = {
  'a request': {
    hold: async ({ browser }) => {
      const mine = browser.copy();
      return { noticed: async () => expect((await mine.get('/whoami')).body).toEqual({ user: null }) };
    },
  },
  'a request under way': {
    hold: async (scene) => {
      const answer = scene.browser.copy().begin('/slow');
      await handler.reached;
      return {
        noticed: async () => {
          handler.open();
          expect((await answer).status).toBe(200);
          await expectNothingLeft(scene);
        },
      };
    },
  },
  'a stream under way': {
    hold: async (scene) => {
      const { ended } = await stream(scene, '/stream');
      await handler.reached;
      return {
        noticed: async () => {
          handler.open();
          await ended;
          await expectNothingLeft(scene);
        },
      };
    },
  },
  'a stream that is tracked': {
    hold: async (scene) => {
      const { ended, close } = await stream(scene, '/tracked');
      return { noticed: () => ended, close };
    },
  },
  'a message of ws': { sockets: 'ws', hold: (scene) => message('ws', scene) },
  'a message of socket.io': {
    sockets: 'socket.io',
    hold: (scene) => message('socket.io over websocket', scene),
  },
  'an operation of GraphQL over HTTP': {
    graphql: true,
    hold: async ({ browser }) => {
      const mine = browser.copy();
      const ask = () => mine.post('/graphql', { query: '{ whoami }' });
      expect((await ask()).body).toEqual({ data: { whoami: 'alice' } });
      return { noticed: async () => expect((await ask()).body).toEqual({ data: { whoami: null } }) };
    },
  },
  'an operation of graphql-ws': {
    graphql: true,
    hold: async (scene) => {
      const socket = graphqlSocket(scene);
      expect(await socket.ask('{ whoami }')).toEqual({ data: { whoami: 'alice' } });
      return {
        noticed: async () => expect(await socket.ask('{ whoami }')).toEqual({ data: { whoami: null } }),
        close: () => socket.close(),
      };
    },
  },
  'a subscription under way': {
    graphql: true,
    hold: async (scene) => {
      const socket = graphqlSocket(scene);
      const ticks = socket.subscribe('subscription { ticks { reader } }');
      const next = async (): Promise<unknown> => {
        const event = ticks.next();
        ticker.send({});
        return (await event).value;
      };
      expect(await next()).toEqual({ data: { ticks: { reader: 'alice' } } });
      return {
        noticed: async () => expect(await next()).toEqual({ data: { ticks: { reader: null } } }),
        close: () => socket.close(),
      };
    },
  },
  'a socket of ws that is tracked': { sockets: 'ws', hold: (scene) => trackedSocket('ws', scene) },
  'a socket of socket.io that is tracked': {
    sockets: 'socket.io',
    hold: (scene) => trackedSocket('socket.io over websocket', scene),
  },
};

/** What was written after the end is nowhere. (A store that is no longer in use keeps its records, as they were.) */
async function expectNothingLeft({ served, id }: Scene): Promise<void> {
  const record = await served.store.inner.load(id);
  expect(record?.fields.has('data:late') ?? false).toBe(false);
  expect((await served.sessions.listByUser('alice')).filter((info) => info.id === id)).toEqual([]);
}

async function stream({ served, browser }: Scene, path: string) {
  const request = get(served.url + path, { agent: false, headers: { Cookie: browser.cookie as string } });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const ended = once(response, 'end');
  response.resume();
  return { ended, close: () => request.destroy() };
}

function graphqlSocket({ served, browser }: Scene): GraphqlSocket {
  return new GraphqlSocket(served.url, { Origin: served.url, Cookie: browser.cookie as string });
}

async function message(carrier: Parameters<typeof connect>[0], { served, browser }: Scene): Promise<Held> {
  const client = await connect(carrier, served.url, '/chat', browser.cookie);
  expect((await client.ask('whoami')).data).toBe('alice');
  return {
    noticed: async () => expect((await client.ask('whoami')).data).toBeNull(),
    close: () => client.close(),
  };
}

async function trackedSocket(
  carrier: Parameters<typeof connect>[0],
  { served, browser }: Scene,
): Promise<Held> {
  const client = await connect(carrier, served.url, '/tracked', browser.cookie);
  await client.next();
  return { noticed: () => client.closed, close: () => client.close() };
}

/**
 * Every way by which a session is held, with every way by which it ends: the cells of the table in docs/revocation.md. That
 * of a Redis failover is in `stores/redis/failover.spec.ts` and `stores/redis/near-cache.spec.ts`.
 */
describe.each(adapters)('on %s', (adapter) => {
  let scene: Scene;
  let held: Held | undefined;

  async function start({ sockets = 'ws', graphql }: Holder): Promise<void> {
    handler = gate();
    ticker = new Ticker();
    const transport = transports.find((one) => one.name === `Apollo on ${adapter}`) as Transport;
    const served = await serve(adapter, {
      controllers: [AccountController],
      ...(graphql
        ? { imports: [transport.module(false)], providers: [TickResolver] }
        : { providers: [ChatGateway, TrackedGateway] }),
      // A tenth of maxAge is one second: so often is asked for sessions that another process may have ended.
      options: { maxAge: 10, absoluteMaxAge: 15, auth: { maxSessionsPerUser: 1 } },
      prepare: (app: INestApplication) =>
        app.useWebSocketAdapter(sockets === 'ws' ? new WsAdapter(app) : new IoAdapter(app)),
    });
    const browser = served.browser();
    const { id } = (await browser.post('/login', { as: 'alice' })).body as { id: string };
    scene = { adapter, served, browser, id };
  }

  afterEach(async () => {
    handler.open();
    held?.close?.();
    held = undefined;
    await scene.served.close();
  });

  describe.each(Object.entries(HOLDERS))('%s notices', (_, holder) => {
    it.each(Object.entries(ENDS))('%s', async (__, end) => {
      await start(holder);
      held = await holder.hold(scene);
      await end(scene);
      await held.noticed();
      expect(await scene.served.sessions.find(scene.id)).toBeUndefined();
    });
  });
});
