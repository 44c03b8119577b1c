import {
  Controller,
  type MiddlewareConsumer,
  Module,
  type ModuleMetadata,
  type NestModule,
  Post,
  UseGuards,
} from '@nestjs/common';
import { ApolloDriver, type ApolloDriverConfig } from '@nestjs/apollo';
import {
  Args,
  Field,
  GraphQLModule,
  Mutation,
  ObjectType,
  Parent,
  Query,
  ResolveField,
  Resolver,
} from '@nestjs/graphql';
import {
  AuthenticatedGuard,
  CsrfGuard,
  CsrfToken,
  Flash,
  FlashMessages,
  Session,
  SessionMiddleware,
  type SessionModuleOptions,
} from 'nest-session';
import {
  type Adapter,
  type Browser,
  onBothAdapters,
  type Served,
  serve,
  sessionCookies,
} from '../support/app.js';

/** Something to wait for, and what ends the wait. */
function gate() {
  let open = (): void => {};
  const passed = new Promise<void>((resolve) => (open = resolve));
  return { open, passed };
}

/** What the resolvers of one query wait for. */
let begun = gate();
let failed = gate();

@ObjectType()
class Page {
  @Field()
  title!: string;
}

@Resolver(() => Page)
class SettingsResolver {
  @Query(() => String, { nullable: true })
  theme(@Session() session: Session<any>) {
    return session.get('theme');
  }

  @Query(() => String, { nullable: true })
  notice(@Flash('notice') notice?: string) {
    return notice;
  }

  @Query(() => String)
  constant() {
    return 'nothing to do with sessions';
  }

  @Query(() => String)
  @UseGuards(AuthenticatedGuard)
  account(@Session() session: Session<any>) {
    return `account of ${session.userId}`;
  }

  @Mutation(() => String)
  setTheme(@Session() session: Session<any>, @Flash() flash: FlashMessages, @Args('to') to: string): string {
    session.set('theme', to);
    flash.set('notice', `it is ${to} now`);
    return to;
  }

  @Mutation(() => String)
  async login(@Session() session: Session<any>, @Args('as') as: string): Promise<string> {
    await session.login(as);
    return session.id;
  }

  @Mutation(() => String, { nullable: true })
  setThemeAndFail(@Session() session: Session<any>, @Args('to') to: string): string {
    session.set('theme', to);
    throw new Error('the paint is out');
  }

  /** Begins, and goes on when the resolver beside it has failed. */
  @Query(() => String)
  async writes(@Session() session: Session<any>): Promise<string> {
    session.set('beside', 'written');
    begun.open();
    await failed.passed;
    return 'written';
  }

  @Query(() => String, { nullable: true })
  async fails(@Session() session: Session<any>): Promise<string> {
    await begun.passed;
    session.set('failed', true);
    // The interceptor sees the error before a timer runs.
    setImmediate(() => failed.open());
    throw new Error('the paint is out');
  }

  @Query(() => Number)
  size(@Session() session: Session<any>): number {
    return session.get('beside') === 'written' ? 1 : 0;
  }

  @Query(() => String)
  token(@CsrfToken() token: string) {
    return token;
  }

  @Mutation(() => String)
  @UseGuards(CsrfGuard)
  guarded() {
    return 'done';
  }

  @Query(() => Page)
  page(): Page {
    return { title: 'Home' };
  }

  /** A field is resolved after the interceptor has seen the end of the query. */
  @ResolveField(() => Number)
  visits(@Parent() _page: Page, @Session() session: Session<any>): number {
    return session.increment('visits');
  }
}

@Controller()
class ThemeController {
  @Post('theme')
  set(@Session() session: Session<any>) {
    session.set('theme', 'dark');
  }
}

@Module({})
class SessionMiddlewareModule implements NestModule {
  configure(consumer: MiddlewareConsumer) {
    consumer.apply(SessionMiddleware).forRoutes('{*path}');
  }
}

/** Express names its response in the request; on Fastify the reply goes into the context by hand. */
const contexts: Readonly<Record<Adapter, ApolloDriverConfig['context']>> = {
  express: undefined,
  fastify: (request: unknown, reply: unknown) => ({ req: request, res: reply }),
};

function serveGraphql(
  adapter: Adapter,
  context: ApolloDriverConfig['context'],
  options?: Partial<SessionModuleOptions>,
  imports: ModuleMetadata['imports'] = [],
): Promise<Served> {
  return serve(adapter, {
    controllers: [ThemeController],
    imports: [
      ...imports,
      GraphQLModule.forRoot<ApolloDriverConfig>({
        driver: ApolloDriver,
        autoSchemaFile: true,
        graphiql: false,
        ...(context && { context }),
      }),
    ],
    providers: [SettingsResolver],
    options,
  });
}

/** Asks as a GraphQL client does. */
function ask(browser: Browser, query: string) {
  return browser.post('/graphql', { query });
}

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;
  beforeAll(async () => {
    served = await serveGraphql(adapter, contexts[adapter]);
  });
  afterAll(() => served.close());
  beforeEach(() => {
    browser = served.browser();
    served.store.drain();
    served.log.length = 0;
  });
  afterEach(() => served.store.recover());

  describe('a session in resolvers', () => {
    it('begins with a mutation, whose response carries the cookie, and is read back by a query', async () => {
      const changed = await ask(browser, 'mutation { setTheme(to: "dark") }');
      expect(changed.body).toEqual({ data: { setTheme: 'dark' } });
      expect(sessionCookies(changed)).toHaveLength(1);
      expect(served.store.drain()).toEqual(['create']);

      const read = await ask(browser, '{ theme }');
      expect(read.body).toEqual({ data: { theme: 'dark' } });
      expect(sessionCookies(read)).toEqual([]);
      expect(served.store.drain()).toEqual(['load']);
    });

    it('costs a visitor who only reads no cookie and no store call', async () => {
      const response = await ask(browser, '{ theme constant }');
      expect(response.body).toEqual({ data: { theme: null, constant: 'nothing to do with sessions' } });
      expect(sessionCookies(response)).toEqual([]);
      expect(served.store.drain()).toEqual([]);
    });

    it('is loaded once for all the resolvers of a request', async () => {
      await ask(browser, 'mutation { setTheme(to: "dark") }');
      served.store.drain();
      const response = await ask(browser, '{ one: theme two: theme constant page { title } }');
      expect(response.body.data).toMatchObject({ one: 'dark', two: 'dark', page: { title: 'Home' } });
      expect(served.store.drain()).toEqual(['load']);
    });

    it('has flash messages, handed out once', async () => {
      await ask(browser, 'mutation { setTheme(to: "dark") }');
      expect((await ask(browser, '{ notice }')).body).toEqual({ data: { notice: 'it is dark now' } });
      expect((await ask(browser, '{ notice }')).body).toEqual({ data: { notice: null } });
    });

    it('keeps what several mutations of a request write, under one cookie', async () => {
      const response = await ask(
        browser,
        'mutation { setTheme(to: "dark") again: setTheme(to: "light") login(as: "ann") }',
      );
      expect(response.body.errors).toBeUndefined();
      expect(sessionCookies(response)).toHaveLength(1);
      const read = await ask(browser, '{ theme account }');
      expect(read.body).toEqual({ data: { theme: 'light', account: 'account of ann' } });
    });

    it('saves what a field resolver writes before the answer is sent', async () => {
      const first = await ask(browser, '{ page { title visits } }');
      expect(first.body).toEqual({ data: { page: { title: 'Home', visits: 1 } } });
      expect(sessionCookies(first)).toHaveLength(1);
      const second = await ask(browser, '{ page { visits } }');
      expect(second.body).toEqual({ data: { page: { visits: 2 } } });
    });
  });

  it('CsrfGuard on a mutation takes the token from a header, and refuses without', async () => {
    const visitor = served.browser();
    const { token } = (await ask(visitor, '{ token }')).body.data;
    const refused = await ask(visitor, 'mutation { guarded }');
    expect(refused.body.errors).toEqual([expect.objectContaining({ message: 'Missing CSRF token' })]);
    expect(refused.body.data).toBeNull();
    const allowed = await ask(visitor, 'mutation { guarded }').set('X-CSRF-Token', token);
    expect(allowed.body).toEqual({ data: { guarded: 'done' } });
  });

  describe('AuthenticatedGuard on a resolver', () => {
    it('refuses a visitor with an error that GraphQL clients know', async () => {
      const response = await ask(browser, '{ account }');
      expect(response.body.data).toBeNull();
      expect(response.body.errors).toEqual([
        expect.objectContaining({
          message: 'Please login to continue',
          path: ['account'],
          extensions: expect.objectContaining({ code: 'UNAUTHENTICATED' }),
        }),
      ]);
      expect(served.store.drain()).toEqual([]);
    });

    it('lets in who has logged in', async () => {
      await ask(browser, 'mutation { login(as: "ann") }');
      served.store.drain();
      const response = await ask(browser, '{ account }');
      expect(response.body).toEqual({ data: { account: 'account of ann' } });
      expect(served.store.drain()).toEqual(['load']);
    });

    it('does not answer for a store that is down', async () => {
      await ask(browser, 'mutation { login(as: "ann") }');
      served.store.fail('load');
      const response = await ask(browser, '{ account }');
      expect(response.body.data).toBeNull();
      expect(response.body.errors).toHaveLength(1);
      expect(response.body.errors[0].extensions.code).not.toBe('UNAUTHENTICATED');
    });
  });

  it('moves to a new id when a mutation logs in, and the old cookie is worth nothing', async () => {
    await ask(browser, 'mutation { setTheme(to: "dark") }');
    const attacker = browser.copy();
    served.store.drain();

    const response = await ask(browser, 'mutation { login(as: "ann") }');
    expect(sessionCookies(response)).toHaveLength(1);
    expect(browser.cookie).not.toBe(attacker.cookie);
    expect(served.store.drain()).toEqual(['load', 'rotate']);
    expect(await served.sessions.find(response.body.data.login)).toMatchObject({ userId: 'ann' });

    expect((await ask(browser, '{ theme account }')).body.data).toEqual({
      theme: 'dark',
      account: 'account of ann',
    });
    expect((await ask(attacker, '{ theme }')).body.data).toEqual({ theme: null });
    expect((await ask(attacker, '{ account }')).body.errors).toHaveLength(1);
  });

  it('a resolver that fails takes nothing from one that runs beside it', async () => {
    [begun, failed] = [gate(), gate()];
    const response = await ask(browser, '{ writes fails }');
    expect(response.body.data).toEqual({ writes: 'written', fails: null });
    expect((await ask(browser, '{ size }')).body.data).toEqual({ size: 1 });
  });

  describe('a mutation that throws an unknown error', () => {
    it('saves nothing', async () => {
      await ask(browser, 'mutation { setTheme(to: "dark") }');
      served.store.drain();
      const response = await ask(browser, 'mutation { setThemeAndFail(to: "light") }');
      expect(response.body.data).toEqual({ setThemeAndFail: null });
      expect(response.body.errors).toEqual([expect.objectContaining({ message: 'the paint is out' })]);
      expect(served.store.drain()).toEqual(['load']);
      expect((await ask(browser, '{ theme }')).body.data).toEqual({ theme: 'dark' });
    });

    it('begins no session', async () => {
      const response = await ask(browser, 'mutation { setThemeAndFail(to: "light") }');
      expect(response.body.errors).toHaveLength(1);
      expect(sessionCookies(response)).toEqual([]);
      expect(served.store.drain()).toEqual([]);
    });

    it('takes nothing back of a mutation that went before it', async () => {
      const response = await ask(browser, 'mutation { setTheme(to: "dark") setThemeAndFail(to: "light") }');
      expect(response.body.data).toEqual({ setTheme: 'dark', setThemeAndFail: null });
      expect((await ask(browser, '{ theme }')).body.data).toEqual({ theme: 'dark' });
    });
  });

  describe('a store that is down', () => {
    it.each(['create', 'commit'] as const)('is a 503 for a mutation that it cannot %s', async (operation) => {
      if (operation === 'commit') await ask(browser, 'mutation { setTheme(to: "dark") }');
      served.store.fail(operation);
      const response = await ask(browser, 'mutation { setTheme(to: "light") }');
      expect(response.status).toBe(503);
      expect(response.body.data ?? null).toBeNull();
      expect(sessionCookies(response)).toEqual([]);

      served.store.recover();
      const before = operation === 'commit' ? 'dark' : null;
      expect((await ask(browser, '{ theme }')).body.data).toEqual({ theme: before });
    });

    it('fails a query that would read from it, and leaves the cookie alone', async () => {
      await ask(browser, 'mutation { setTheme(to: "dark") }');
      served.store.fail('load');
      const response = await ask(browser, '{ theme }');
      // The field may be null; then the error says that this is no value.
      expect(response.body).toMatchObject({ data: { theme: null }, errors: [{ path: ['theme'] }] });
      expect(sessionCookies(response)).toEqual([]);
      served.store.recover();
      expect((await ask(browser, '{ theme }')).body).toEqual({ data: { theme: 'dark' } });
    });

    it('turns an answer into a 503 when a field resolver has written after the query', async () => {
      await ask(browser, 'mutation { setTheme(to: "dark") }');
      served.store.fail('commit');
      const response = await ask(browser, '{ page { visits } }');
      expect(response.status).toBe(503);
      expect(response.body).toEqual({ statusCode: 503, message: 'Service Unavailable' });
    });

    it('fails a login, with an error', async () => {
      served.store.fail('create');
      const response = await ask(browser, 'mutation { login(as: "ann") }');
      expect(response.body.data ?? null).toBeNull();
      expect(sessionCookies(response)).toEqual([]);
      served.store.recover();
      expect((await ask(browser, '{ account }')).body.data).toBeNull();
    });

    describe.each([
      ['load', '{ theme }'],
      ['commit', 'mutation { setTheme(to: "light") }'],
      ['rotate', 'mutation { login(as: "ann") }'],
    ] as const)('and cannot %s', (operation, query) => {
      it("has a reason that is none of the client's business", async () => {
        await ask(browser, 'mutation { setTheme(to: "dark") }');
        served.store.fail(operation);
        const response = await ask(browser, query);
        expect(response.text).not.toContain('connection refused');
      });

      it('has a reason that is in the log', async () => {
        await ask(browser, 'mutation { setTheme(to: "dark") }');
        served.store.fail(operation);
        await ask(browser, query);
        expect(served.log.join()).toContain(`The session store could not be reached (${operation})`);
        expect(served.log.join()).toContain('connection refused');
      });
    });
  });
});

onBothAdapters((adapter) => {
  describe("with Nest's own GraphQL context", () => {
    let served: Served;
    beforeAll(async () => {
      served = await serveGraphql(adapter, undefined);
    });
    afterAll(() => served.close());

    it('a mutation can begin a session', async () => {
      const browser = served.browser();
      const response = await ask(browser, 'mutation { setTheme(to: "dark") }');
      expect(response.body).toEqual({ data: { setTheme: 'dark' } });
      expect(sessionCookies(response)).toHaveLength(1);
      expect((await ask(browser, '{ theme }')).body).toEqual({ data: { theme: 'dark' } });
    });

    it('what a field resolver writes into a session that began elsewhere is saved', async () => {
      const browser = served.browser();
      await browser.post('/theme');
      expect((await ask(browser, '{ page { visits } }')).body.data).toEqual({ page: { visits: 1 } });
      expect((await ask(browser, '{ page { visits } }')).body.data).toEqual({ page: { visits: 2 } });
    });
  });

  describe("with Nest's own GraphQL context and SessionMiddleware", () => {
    let served: Served;
    beforeAll(async () => {
      served = await serveGraphql(adapter, undefined, {}, [SessionMiddlewareModule]);
    });
    afterAll(() => served.close());

    it('the middleware and the resolvers share one session, loaded once', async () => {
      const browser = served.browser();
      await ask(browser, 'mutation { setTheme(to: "dark") }');
      served.store.drain();
      const response = await ask(browser, '{ theme page { visits } }');
      expect(response.body).toEqual({ data: { theme: 'dark', page: { visits: 1 } } });
      expect(served.store.drain()).toEqual(['load', 'commit']);
    });
  });

  describe('with a login page', () => {
    let served: Served;
    beforeAll(async () => {
      served = await serveGraphql(adapter, contexts[adapter], { auth: { loginPath: '/login' } });
    });
    afterAll(() => served.close());

    it('a resolver still refuses with an error: nobody follows a redirect inside a GraphQL answer', async () => {
      const response = await ask(served.browser(), '{ account }').set('Accept', '*/*');
      expect(response.body.errors).toEqual([
        expect.objectContaining({ extensions: expect.objectContaining({ code: 'UNAUTHENTICATED' }) }),
      ]);
      expect(response.headers).not.toHaveProperty('location');
      expect(sessionCookies(response)).toEqual([]);
    });
  });
});
