import { Body, Controller, Get, HttpCode, Post, UseGuards } from '@nestjs/common';
import {
  Args,
  Field,
  Mutation,
  ObjectType,
  Parent,
  Query,
  ResolveField,
  Resolver,
  Subscription,
} from '@nestjs/graphql';
import {
  AuthenticatedGuard,
  CsrfGuard,
  CsrfProtect,
  Flash,
  Session,
  SessionManager,
  SkipCsrf,
} from 'nest-session';
import { EventEmitter, on, once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { onBothAdapters, serve, type Browser, type Served } from '../support/app.js';
import { GraphqlSocket, serveGraphqlSockets, transports } from '../support/graphql-sockets.js';

@Controller()
class UpgradingController {
  @Get('guarded')
  @UseGuards(CsrfGuard)
  guarded() {
    return {};
  }
}

@Controller()
class AccountController {
  @Get()
  read(@Session() session: Session<any>) {
    return session.data;
  }

  @Post('login')
  async login(@Session() session: Session<any>, @Body('as') as = 'alice') {
    await session.login(as, { role: 'admin' });
    return { id: session.id };
  }

  @Post('logout')
  @HttpCode(200)
  async logout(@Session() session: Session) {
    await session.logout();
  }

  @Post('resign')
  resign(@Session() session: Session<any>) {
    session.set('role', 'guest');
  }
}

const EVIL = 'http://127.0.0.1:1';

/** `tick` is an event of the subscription; `subscribed` tells the test that one has begun. */
let ticker = new EventEmitter();

@ObjectType()
class Tick {
  @Field(() => Number)
  at!: number;
}

/** The shapes that contexts have over sockets. */
interface SocketContext {
  readonly req?: SocketContext | IncomingMessage;
  readonly request?: object;
  readonly extra?: { readonly request: object };
}

function requestOf({ req, request, extra }: SocketContext): object {
  const inside = req && 'extra' in req ? req.extra?.request : req;
  return inside ?? request ?? (extra?.request as object);
}

@Resolver(() => Tick)
class BankResolver {
  static transfers = 0;

  constructor(private readonly sessions: SessionManager) {}

  @Query(() => String, { nullable: true })
  whoami(@Session('userId') userId?: string) {
    return userId;
  }

  @Query(() => String, { nullable: true })
  role(@Session() session: Session<any>) {
    return session.get('role');
  }

  @Query(() => String, { nullable: true })
  theme(@Session() session: Session<any>) {
    return session.get('theme');
  }

  @Mutation(() => String)
  @UseGuards(AuthenticatedGuard, CsrfGuard)
  transfer(@Session() session: Session) {
    BankResolver.transfers++;
    return `paid by ${session.userId}`;
  }

  @Query(() => String)
  @UseGuards(CsrfGuard)
  guarded() {
    return 'guarded';
  }

  @Query(() => String)
  @UseGuards(CsrfGuard)
  @CsrfProtect()
  protected() {
    return 'protected';
  }

  @Mutation(() => String)
  @UseGuards(CsrfGuard)
  @SkipCsrf()
  webhook() {
    return 'webhook';
  }

  @Mutation(() => String)
  setTheme(@Session() session: Session<any>, @Args('to') to: string): string {
    session.set('theme', to);
    return to;
  }

  @Mutation(() => String)
  async login(@Session() session: Session, @Args('as') as: string): Promise<string> {
    await session.login(as);
    return as;
  }

  @Subscription(() => Tick, { resolve: ([tick]: [Tick]) => tick })
  ticks() {
    const ticks = on(ticker, 'tick');
    ticker.emit('subscribed');
    return ticks;
  }

  @Subscription(() => Tick, {
    resolve: ([tick]: [Tick]) => tick,
    async filter(this: BankResolver, _tick: unknown, _variables: unknown, context: SocketContext) {
      const { userId } = await this.sessions.open(requestOf(context));
      ticker.emit('filtered', userId !== undefined);
      return userId !== undefined;
    },
  })
  memberTicks() {
    return this.ticks();
  }

  @Query(() => Tick)
  tick(): Tick {
    return { at: 0 };
  }

  @ResolveField(() => String, { nullable: true })
  reader(@Parent() _tick: Tick, @Session() session: Session) {
    return session.userId;
  }

  @ResolveField(() => String, { nullable: true })
  user(@Parent() _tick: Tick, @Session('userId') userId?: string) {
    return userId;
  }

  @ResolveField(() => String, { nullable: true })
  notice(@Parent() _tick: Tick, @Flash('notice') notice?: string) {
    return notice;
  }
}

describe.each(transports.map((transport) => [transport.name, transport] as const))(
  'with %s',
  (_name, transport) => {
    let served: Served;
    let alice: Browser;
    let sockets: GraphqlSocket[];

    function start(checked: boolean): void {
      beforeAll(async () => {
        served = await serveGraphqlSockets(transport, {
          controllers: [AccountController],
          providers: [BankResolver],
          options: {
            maxAge: 100,
            absoluteMaxAge: 150,
            csrf: { trustedOrigins: ['https://partner.example'] },
          },
          checked,
        });
      });
      afterAll(() => served.close());
      beforeEach(async () => {
        sockets = [];
        ticker = new EventEmitter();
        BankResolver.transfers = 0;
        alice = await member('alice');
      });
      afterEach(() => Promise.all(sockets.map((socket) => socket.close())));
    }

    async function member(as: string): Promise<Browser> {
      const browser = served.browser();
      await browser.post('/login', { as });
      return browser;
    }

    /** A socket of a browser, opened by a page of `Origin`. */
    function connect(
      headers: Record<string, string> = { Origin: served.url },
      browser = alice,
      params?: Record<string, unknown>,
    ): GraphqlSocket {
      const socket = new GraphqlSocket(served.url, { Cookie: browser.cookie as string, ...headers }, params);
      sockets.push(socket);
      return socket;
    }

    const refused = { errors: [expect.objectContaining({ message: 'Invalid CSRF token' })] };

    const foreign: [string, Record<string, string>][] = [
      ['another port of our host', { Origin: EVIL }],
      ['another site', { Origin: 'https://evil.example' }],
      ['an opaque origin', { Origin: 'null' }],
      ['no origin', {}],
    ];

    describe('CsrfGuard, over a socket', () => {
      start(false);

      it.each([
        ['a page of ours', () => served.url],
        ['a trusted origin', () => 'https://partner.example'],
      ])('lets in what comes from %s, without a token', async (_whose, origin) => {
        const socket = connect({ Origin: origin() });
        expect(await socket.ask('mutation { transfer }')).toMatchObject({
          data: { transfer: 'paid by alice' },
        });
        expect(await socket.ask('{ guarded protected }')).toMatchObject({
          data: { guarded: 'guarded', protected: 'protected' },
        });
      });

      it.each(foreign)('refuses what comes from %s', async (_whose, headers) => {
        const rejected: unknown[] = [];
        const events = served.sessions.events.subscribe((event) => rejected.push(event));
        const socket = connect(headers);
        expect(await socket.ask('mutation { transfer }')).toMatchObject(refused);
        expect(await socket.ask('{ guarded }')).toMatchObject(refused);
        expect(await socket.ask('{ protected }')).toMatchObject(refused);
        events.unsubscribe();
        expect(BankResolver.transfers).toBe(0);
        expect(rejected).toContainEqual(
          expect.objectContaining({ type: 'rejected', reason: 'csrf', check: 'origin' }),
        );
      });

      it('leaves alone what is exempted', async () => {
        expect(await connect({ Origin: EVIL }).ask('mutation { webhook }')).toMatchObject({
          data: { webhook: 'webhook' },
        });
      });
    });

    describe('a connection that is checked', () => {
      start(true);

      it('is there for a page of ours', async () => {
        expect(await connect().ask('{ whoami }')).toMatchObject({ data: { whoami: 'alice' } });
      });

      it.each(foreign)('is refused to a page of %s', async (_whose, headers) => {
        await expect(connect(headers).ask('{ whoami }')).rejects.toBeDefined();
      });
    });

    describe('a session, over a socket', () => {
      start(false);

      it.each<[string, () => unknown]>([
        ['a logout', () => alice.post('/logout')],
        ['another login', () => alice.post('/login', { as: 'bob' })],
        ['revoke', async () => served.sessions.revoke((await served.sessions.listByUser('alice'))[0].id)],
        ['revokeByUser', () => served.sessions.revokeByUser('alice')],
        ['clear', () => served.sessions.clear()],
        ['maxAge', () => served.clock.pass(100)],
        [
          'absoluteMaxAge',
          async () => {
            served.clock.pass(90);
            expect((await alice.get('/')).body).toMatchObject({ userId: 'alice' });
            served.clock.pass(60);
          },
        ],
      ])('is seen to have ended by the next operation: by %s', async (_how, end) => {
        const socket = connect();
        expect(await socket.ask('{ whoami }')).toMatchObject({ data: { whoami: 'alice' } });
        expect(await socket.ask('mutation { transfer }')).toMatchObject({
          data: { transfer: 'paid by alice' },
        });
        await end();
        expect(await socket.ask('{ whoami }')).toMatchObject({ data: { whoami: null } });
        expect((await socket.ask('mutation { transfer }')).errors).toHaveLength(1);
        expect(BankResolver.transfers).toBe(1);
      });

      it('is the present one for each operation: a role that was taken away is gone', async () => {
        const socket = connect();
        expect(await socket.ask('{ role }')).toMatchObject({ data: { role: 'admin' } });
        await alice.post('/resign');
        expect(await socket.ask('{ role }')).toMatchObject({ data: { role: 'guest' } });
      });

      it('is loaded once for all the resolvers of an operation, and once more for the next', async () => {
        const socket = connect();
        await socket.ask('{ whoami }');
        served.store.drain();
        for (let operation = 0; operation < 2; operation++) {
          expect(await socket.ask('{ whoami role theme guarded tick { reader user } }')).toMatchObject({
            data: { whoami: 'alice', role: 'admin', tick: { reader: 'alice', user: 'alice' } },
          });
          expect(served.store.drain()).toEqual(['load']);
        }
      });

      it('is one of its own for each connection, whatever they ask', async () => {
        const [one, two] = [connect(), connect(undefined, await member('bob'))];
        for (let round = 0; round < 3; round++) {
          const answers = await Promise.all([one.ask('{ whoami }'), two.ask('{ whoami }')]);
          expect(answers).toMatchObject([{ data: { whoami: 'alice' } }, { data: { whoami: 'bob' } }]);
        }
      });

      it('is changed by an operation, for the next and for everybody else', async () => {
        const socket = connect();
        const change = 'mutation ($to: String!) { setTheme(to: $to) }';
        expect(await socket.ask(change, { to: 'dark' })).toMatchObject({ data: { setTheme: 'dark' } });
        expect(await socket.ask('{ theme }')).toMatchObject({ data: { theme: 'dark' } });
        expect((await alice.get('/')).body).toMatchObject({ theme: 'dark' });
      });

      it('cannot log in: there is no response to put a cookie in', async () => {
        const answer = await connect().ask('mutation { login(as: "mallory") }');
        expect(answer.errors).toEqual([
          expect.objectContaining({ message: expect.stringContaining('there is no response to put it in') }),
        ]);
        expect((await alice.get('/')).body).toMatchObject({ userId: 'alice' });
      });

      describe('in a subscription under way', () => {
        /** Begins one; what arrives is what `next()` says. */
        async function subscribe(query: string) {
          const subscribed = once(ticker, 'subscribed');
          const results = connect().subscribe(query);
          await subscribed;
          return results;
        }

        it('is loaded anew for each event', async () => {
          const results = await subscribe('subscription { ticks { at reader user notice } }');
          served.store.drain();
          ticker.emit('tick', { at: 1 });
          const tick = { at: 1, reader: 'alice', user: 'alice', notice: null };
          expect(await results.next()).toMatchObject({ value: { data: { ticks: tick } } });
          expect(served.store.drain()).toEqual(['load']);
          await alice.post('/logout');
          ticker.emit('tick', { at: 2 });
          expect(await results.next()).toMatchObject({
            value: { data: { ticks: { at: 2, reader: null, user: null, notice: null } } },
          });
        });

        it('lets a filter say who may go on reading', async () => {
          const results = await subscribe('subscription { memberTicks { at } }');
          const arrived = [results.next(), results.next()];
          ticker.emit('tick', { at: 1 });
          expect(await arrived[0]).toMatchObject({ value: { data: { memberTicks: { at: 1 } } } });
          const filtered = once(ticker, 'filtered');
          await served.sessions.revokeByUser('alice');
          ticker.emit('tick', { at: 2 });
          expect(await filtered).toEqual([false]);
        });
      });
    });
  },
);

const mercurius = transports.filter(({ name }) => name.startsWith('Mercurius'));

describe.each(mercurius.map((one) => [one.name, one] as const))('with %s', (_name, transport) => {
  it('headers that a page sends in its connection_init do not pass for those of the handshake', async () => {
    ticker = new EventEmitter();
    BankResolver.transfers = 0;
    const served = await serveGraphqlSockets(transport, {
      controllers: [AccountController],
      providers: [BankResolver],
      trustProxy: true,
    });
    const alice = served.browser();
    await alice.post('/login');
    const headers = { Cookie: alice.cookie as string, Origin: EVIL };
    const added = { 'x-forwarded-host': new URL(EVIL).host, 'sec-fetch-site': 'same-origin' };
    const socket = new GraphqlSocket(served.url, headers, { headers: added });
    // Mercurius adds them to the request's when a subscription begins.
    const subscribed = once(ticker, 'subscribed');
    socket.subscribe('subscription { ticks { at } }');
    await subscribed;
    expect(await socket.ask('mutation { transfer }')).toMatchObject({
      errors: [{ message: 'Invalid CSRF token' }],
    });
    expect(BankResolver.transfers).toBe(0);
    await socket.close();
    await served.close();
  });

  it('a mutation over HEAD, which it runs, is no safe request', async () => {
    BankResolver.transfers = 0;
    const served = await serveGraphqlSockets(transport, {
      controllers: [AccountController],
      providers: [BankResolver],
    });
    const alice = served.browser();
    await alice.post('/login');
    await fetch(`${served.url}/graphql?query=${encodeURIComponent('mutation { transfer }')}`, {
      method: 'HEAD',
      headers: { Cookie: alice.cookie as string, Origin: EVIL, 'Sec-Fetch-Site': 'same-site' },
    });
    expect(BankResolver.transfers).toBe(0);
    await served.close();
  });
});

onBothAdapters((adapter) => {
  it('an upgrade that nobody answers is refused by CsrfGuard, unless it comes from a page of ours', async () => {
    const served = await serve(adapter, { controllers: [UpgradingController] });
    const status = async (headers: Record<string, string>) => {
      const sent = get(`${served.url}/guarded`, {
        agent: false,
        headers: { Connection: 'Upgrade', Upgrade: 'websocket', ...headers },
      });
      const [answer] = (await once(sent, 'response')) as [IncomingMessage];
      answer.resume();
      return answer.statusCode;
    };
    expect(await status({ Origin: served.url })).toBe(200);
    expect(await status({ Origin: EVIL })).toBe(403);
    expect(await status({})).toBe(403);
    await served.close();
  });
});
