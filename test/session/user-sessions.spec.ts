import {
  Body,
  Controller,
  Get,
  type MiddlewareConsumer,
  Module,
  type NestModule,
  Param,
  Post,
  UseGuards,
} from '@nestjs/common';
import { ApolloDriver, type ApolloDriverConfig } from '@nestjs/apollo';
import { GraphQLModule, Query, Resolver } from '@nestjs/graphql';
import {
  AuthenticatedGuard,
  Flash,
  MemoryStore,
  Session,
  type SessionManager,
  SessionMiddleware,
  SessionModule,
} from 'nest-session';
import {
  type Browser,
  Clock,
  createApp,
  onBothAdapters,
  SECRET,
  type Served,
  serve,
  sessionCookies,
  setCookies,
} from '../support/app.js';

@Controller()
class UserController {
  @Post('login/:name')
  async login(@Session() session: Session, @Param('name') name: string) {
    await session.login(name);
    return { id: session.id };
  }

  /** As those do who never call login(). */
  @Post('become/:name')
  become(@Session() session: Session, @Param('name') name: string) {
    session.set('userId', name);
  }

  @Post('note')
  note(@Session() session: Session<any>, @Body() body: { text: string }) {
    session.set('note', body.text);
  }

  @Post('regenerate')
  async regenerate(@Session() session: Session) {
    await session.regenerate();
    return { id: session.id };
  }

  @Post('logout')
  async logout(@Session() session: Session) {
    await session.logout();
  }

  @Get('me')
  me(@Session() session: Session) {
    return { userId: session.userId ?? null };
  }

  @Get('messages')
  messages(@Flash('error') error?: string) {
    return { error: error ?? null };
  }

  @Get('broken')
  broken() {
    throw new Error('broken');
  }

  @Get('private')
  @UseGuards(AuthenticatedGuard)
  secret(@Session() session: Session) {
    return { userId: session.userId };
  }
}

@Resolver()
class MessagesResolver {
  @Query(() => String, { nullable: true })
  message(@Flash('error') error?: string) {
    return error;
  }
}

@Module({})
class SessionMiddlewareModule implements NestModule {
  configure(consumer: MiddlewareConsumer) {
    consumer.apply(SessionMiddleware).forRoutes('{*path}');
  }
}

const NOTICE = 'You were signed out because you signed in elsewhere.';

onBothAdapters((adapter) => {
  describe('the sessions of a user', () => {
    let served: Served;
    let sessions: SessionManager;
    const start = async (auth: object = {}, more: Partial<Parameters<typeof serve>[1]> = {}) => {
      const { options } = more;
      served = await serve(adapter, {
        controllers: [UserController],
        ...more,
        options: { auth, ...options },
      });
      sessions = served.sessions;
    };
    afterEach(() => served.close());

    const login = async (name = 'alice'): Promise<{ browser: Browser; id: string }> => {
      const browser = served.browser();
      const { body } = await browser.post(`/login/${name}`).expect(201);
      return { browser, id: body.id as string };
    };
    const userOf = async (browser: Browser) => (await browser.get('/me')).body.userId as string | null;
    const idsOf = async (name = 'alice') => (await sessions.listByUser(name)).map(({ id }) => id);

    it('are not evicted by visitors who write, from a MemoryStore with maxSessions', async () => {
      const { now } = new Clock();
      await start({}, { options: { store: new MemoryStore({ maxSessions: 10, clock: () => now }) } });
      const visitor = served.browser();
      await visitor.post('/note', { text: 'a cart' });
      await visitor.post('/login/bob');
      const became = served.browser();
      await became.post('/become/carol');
      const browsers = [(await login()).browser, visitor, became];
      for (let index = 0; index < 60; index++) {
        expect(setCookies(await served.browser().post('/note', { text: 'flood' }))).toHaveLength(1);
      }
      expect(await Promise.all(browsers.map(userOf))).toEqual(['alice', 'bob', 'carol']);
      expect(await sessions.count()).toBe(10);
    });

    it('are listed, the last used first, and nobody else’s', async () => {
      await start();
      const first = await login();
      served.clock.pass(60);
      const second = await login();
      await login('bob');
      expect(await idsOf()).toEqual([second.id, first.id]);
      served.clock.pass(60);
      await first.browser.post('/note', { text: 'here' });
      expect(await idsOf()).toEqual([first.id, second.id]);
      expect(await idsOf('nobody')).toEqual([]);
    });

    it('say when, with what and from where they began', async () => {
      await start();
      const browser = served.browser();
      await browser.get('/me');
      const began = served.clock.now;
      const { body } = await browser.post('/login/alice').set('User-Agent', 'Test Browser/1.0');
      expect(await sessions.listByUser('alice')).toEqual([
        {
          id: body.id,
          userId: 'alice',
          createdAt: new Date(began),
          lastAccessedAt: new Date(began),
          expiresAt: new Date(began + 86_400_000),
          userAgent: 'Test Browser/1.0',
          ip: '127.0.0.1',
        },
      ]);
    });

    it('remember at most 256 characters of a User-Agent', async () => {
      await start();
      await served.browser().post('/login/alice').set('User-Agent', 'x'.repeat(5000));
      expect((await sessions.listByUser('alice'))[0].userAgent).toBe('x'.repeat(256));
    });

    it('do not believe X-Forwarded-For', async () => {
      await start();
      await served.browser().post('/login/alice').set('X-Forwarded-For', '203.0.113.9');
      expect((await sessions.listByUser('alice'))[0].ip).toBe('127.0.0.1');
    });

    it('but believe a proxy that the adapter trusts', async () => {
      await start({}, { trustProxy: true });
      await served.browser().post('/login/alice').set('X-Forwarded-For', '203.0.113.9');
      expect((await sessions.listByUser('alice'))[0].ip).toBe('203.0.113.9');
    });

    it('also where a middleware opened the session', async () => {
      await start({}, { trustProxy: true, imports: [SessionMiddlewareModule] });
      await served.browser().post('/login/alice').set('X-Forwarded-For', '203.0.113.9');
      expect((await sessions.listByUser('alice'))[0].ip).toBe('203.0.113.9');
    });

    it('say when they were used last, though that only extended them', async () => {
      await start();
      const [first, second] = [await login(), await login()];
      served.clock.pass(20_000);
      await first.browser.get('/me');
      const [last, before] = await sessions.listByUser('alice');
      expect([last.id, before.id]).toEqual([first.id, second.id]);
      expect(last.lastAccessedAt).toEqual(new Date(served.clock.now));
      expect(await sessions.find(first.id)).toEqual(last);
    });

    it('remember nothing of a visitor’s address', async () => {
      await start();
      const browser = served.browser();
      await browser.post('/note', { text: 'here' });
      const id = (await browser.post('/regenerate')).body.id as string;
      const info = await sessions.get(id);
      expect([info.ip, info.userAgent]).toEqual([undefined, undefined]);
    });

    it('are listed however the user came into the session', async () => {
      await start();
      const browser = served.browser();
      await browser.post('/become/alice').set('User-Agent', 'A').expect(201);
      const [info] = await sessions.listByUser('alice');
      expect(info).toMatchObject({ userId: 'alice', userAgent: 'A', ip: '127.0.0.1' });
    });

    it('move with regenerate(), and end with logout()', async () => {
      await start();
      const { browser, id } = await login();
      const next = (await browser.post('/regenerate')).body.id as string;
      expect(next).not.toBe(id);
      expect(await idsOf()).toEqual([next]);
      expect((await sessions.get(next)).ip).toBe('127.0.0.1');
      await browser.post('/logout');
      expect(await idsOf()).toEqual([]);
    });

    it('change hands with a login as somebody else, who is not where the first one was', async () => {
      await start();
      const { browser } = await login();
      const { body } = await browser.post('/login/bob').set('User-Agent', 'B');
      expect(await idsOf()).toEqual([]);
      expect(await sessions.listByUser('bob')).toMatchObject([{ id: body.id, userAgent: 'B' }]);
    });

    it('forget what the first one came with, where the second says nothing', async () => {
      await start();
      const browser = served.browser();
      await browser.post('/login/alice').set('User-Agent', 'A');
      await browser.post('/login/bob').unset('User-Agent');
      const [info] = await sessions.listByUser('bob');
      expect(info.userAgent).toBeUndefined();
      expect(info.ip).toBe('127.0.0.1');
    });

    it('are no longer listed when their time is over', async () => {
      await start();
      await login();
      served.clock.pass(86_400);
      expect(await idsOf()).toEqual([]);
    });

    it('are all ended by revokeByUser, or all but one', async () => {
      await start();
      const [first, second, third] = [await login(), await login(), await login()];
      const bob = await login('bob');
      expect(await sessions.revokeByUser('alice', { except: second.id })).toBe(2);
      expect(await Promise.all([first, second, third, bob].map(({ browser }) => userOf(browser)))).toEqual([
        null,
        'alice',
        null,
        'bob',
      ]);
      expect(await sessions.revokeByUser('alice')).toBe(1);
      expect(await sessions.revokeByUser('alice')).toBe(0);
      expect(await userOf(second.browser)).toBeNull();
    });

    it('that were revoked stay so, whatever was under way', async () => {
      await start();
      const { browser } = await login();
      const held = served.store.hold('commit');
      const writing = Promise.resolve(browser.post('/note', { text: 'late' }));
      await held.reached;
      await sessions.revokeByUser('alice');
      held.release();
      await writing;
      expect(await userOf(browser)).toBeNull();
      expect(await sessions.count()).toBe(0);
    });

    it('that the store could not end all of are an error; the others have ended, and it can be repeated', async () => {
      await start();
      const browsers = [await login(), await login(), await login()].map(({ browser }) => browser);
      const { destroy } = served.store;
      let calls = 0;
      served.store.destroy = (id) =>
        ++calls === 2 ? Promise.reject(new Error('connection refused')) : destroy(id);
      await expect(sessions.revokeByUser('alice')).rejects.toMatchObject({
        code: 'E_SESSION_STORE_UNAVAILABLE',
      });
      expect(await idsOf()).toHaveLength(1);
      expect(await sessions.revokeByUser('alice')).toBe(1);
      expect(await Promise.all(browsers.map(userOf))).toEqual([null, null, null]);
    });

    it('that ended by themselves meanwhile are not counted, and told of once', async () => {
      await start();
      const { browser, id } = await login();
      const seen: unknown[] = [];
      sessions.events.subscribe((event) => seen.push(event));
      const held = served.store.hold('destroy');
      const revoking = sessions.revokeByUser('alice');
      await held.reached;
      await browser.post('/logout').expect(201);
      held.release();
      expect(await revoking).toBe(0);
      expect(seen).toEqual([{ type: 'destroyed', id, userId: 'alice' }]);
    });

    it.each(['', 'A'.repeat(64), 'a'.repeat(63), `${'a'.repeat(64)}\n`, '../'.repeat(21) + 'a'])(
      'are never asked for by what is no id: %j',
      async (id) => {
        await start();
        served.store.drain();
        expect([await sessions.find(id), await sessions.revoke(id)]).toEqual([undefined, false]);
        expect(served.store.drain()).toEqual([]);
      },
    );

    it('tell of their end in an event', async () => {
      await start();
      const { id } = await login();
      const seen: unknown[] = [];
      sessions.events.subscribe((event) => seen.push(event));
      await sessions.revokeByUser('alice');
      expect(seen).toEqual([{ type: 'destroyed', id, userId: 'alice' }]);
    });

    describe('are at most maxSessionsPerUser:', () => {
      it('the one that logged in longest ago goes', async () => {
        await start({ maxSessionsPerUser: 2 });
        const first = await login();
        served.clock.pass(1);
        const second = await login();
        served.clock.pass(1);
        await first.browser.post('/note', { text: 'used last' });
        const bob = await login('bob');
        const third = await login();
        expect((await idsOf()).toSorted()).toEqual([second.id, third.id].toSorted());
        expect(await Promise.all([first, second, third, bob].map(({ browser }) => userOf(browser)))).toEqual([
          null,
          'alice',
          'alice',
          'bob',
        ]);
      });

      it('a visitor’s old session that logs in now is the newest', async () => {
        await start({ maxSessionsPerUser: 1 });
        const old = served.browser();
        await old.post('/note', { text: 'here first' });
        served.clock.pass(100);
        const { browser } = await login();
        served.clock.pass(100);
        await old.post('/login/alice');
        expect([await userOf(old), await userOf(browser)]).toEqual(['alice', null]);
      });

      it('a login as the same user again is no other session', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        await browser.post('/login/alice').expect(201);
        expect(await userOf(browser)).toBe('alice');
      });

      it('writing the key by hand counts as well', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        served.clock.pass(1);
        await served.browser().post('/become/alice');
        expect(await userOf(browser)).toBeNull();
      });

      it('the browser that had to go is told so, once', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        served.clock.pass(1);
        await login();
        expect((await browser.get('/messages')).body).toEqual({ error: NOTICE });
        expect((await browser.get('/messages')).body).toEqual({ error: null });
      });

      it('also when its next request reads no messages', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        served.clock.pass(1);
        await login();
        await browser.get('/me');
        expect((await browser.get('/messages')).body).toEqual({ error: NOTICE });
        expect((await browser.get('/messages')).body).toEqual({ error: null });
      });

      it('by the guard as well, where it redirects and where it does not', async () => {
        await start({ maxSessionsPerUser: 1, loginPath: '/messages' });
        const { browser } = await login();
        served.clock.pass(1);
        await login();
        const twin = browser.copy();
        const refused = await browser.get('/private').set('Accept', 'application/json');
        expect([refused.status, refused.body.message]).toEqual([401, NOTICE]);
        expect((await browser.get('/messages')).body).toEqual({ error: NOTICE });
        // Whoever comes second with the old cookie is only a visitor.
        expect((await twin.get('/private')).status).toBe(302);
        expect((await twin.get('/messages')).body).toEqual({ error: 'Please login to continue' });
      });

      it('a session that ended otherwise is told nothing', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser, id } = await login();
        const twin = browser.copy();
        await sessions.revoke(id);
        expect((await twin.get('/messages')).body).toEqual({ error: null });
      });

      it('of two logins at once one stays, whichever way they overlap', async () => {
        await start({ maxSessionsPerUser: 1 });
        const [one, two] = [served.browser(), served.browser()];
        // Both are stored before either counts.
        const held = [served.store.hold('create'), served.store.hold('create')];
        const logins = [one, two].map((browser) => Promise.resolve(browser.post('/login/alice')));
        await Promise.all(held.map(({ reached }) => reached));
        for (const { release } of held) release();
        await Promise.all(logins);
        expect(await idsOf()).toHaveLength(1);
        expect([await userOf(one), await userOf(two)].toSorted()).toEqual(['alice', null]);
      });

      it('once, however many requests it sends at a time', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        served.clock.pass(1);
        await login();
        const answers = await Promise.all(
          Array.from({ length: 6 }, () => browser.copy().get('/messages').expect(200)),
        );
        expect(answers.filter(({ body }) => body.error === NOTICE)).toHaveLength(1);
        // The others must not take the new cookie away.
        expect(answers.flatMap(sessionCookies)).toEqual([]);
      });

      it('and nobody else is: not the new session, no visitor, no other user', async () => {
        await start({ maxSessionsPerUser: 1 });
        const bob = await login('bob');
        const { browser } = await login();
        served.clock.pass(1);
        const second = await login();
        for (const other of [second.browser, bob.browser, served.browser()]) {
          expect((await other.get('/messages')).body).toEqual({ error: null });
        }
        expect((await browser.get('/messages')).body).toEqual({ error: NOTICE });
      });

      it('everyone who had to go is told', async () => {
        await start();
        const browsers = [await login(), await login(), await login()].map(({ browser }) => browser);
        const { store } = served;
        const { clock } = served;
        const limited = await serve(adapter, {
          controllers: [UserController],
          options: { store, auth: { maxSessionsPerUser: 1 } },
        });
        limited.clock.now = clock.now + 1000;
        const here = await limited.browser().post('/login/alice').expect(201);
        expect((await limited.sessions.listByUser('alice')).map(({ id }) => id)).toEqual([here.body.id]);
        for (const browser of browsers) {
          const answer = await limited.http.get('/messages').set('Cookie', browser.cookie as string);
          expect(answer.body).toEqual({ error: NOTICE });
        }
        expect(await limited.sessions.count()).toBe(1);
        await limited.close();
      });

      it('not over a socket, which could not remember that it was; the next request is', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        served.clock.pass(1);
        await login();
        const session = await sessions.open({ headers: { cookie: browser.cookie } });
        expect([session.isNew, session.userId, session.flash.has('error')]).toEqual([true, undefined, false]);
        expect((await browser.get('/messages')).body).toEqual({ error: NOTICE });
      });

      it('also in a resolver', async () => {
        await start(
          { maxSessionsPerUser: 1 },
          {
            imports: [
              GraphQLModule.forRoot<ApolloDriverConfig>({
                driver: ApolloDriver,
                autoSchemaFile: true,
                graphiql: false,
                context: (req: unknown, res: unknown) =>
                  adapter === 'express' ? (req as object) : { req, res },
              }),
            ],
            providers: [MessagesResolver],
          },
        );
        const { browser } = await login();
        served.clock.pass(1);
        await login();
        const ask = async () => (await browser.post('/graphql', { query: '{ message }' })).body as object;
        expect(await ask()).toEqual({ data: { message: NOTICE } });
        expect(await ask()).toEqual({ data: { message: null } });
      });

      it('who logs in again at once is logged in, and told', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        served.clock.pass(1);
        const second = await login();
        served.clock.pass(1);
        await browser.post('/login/alice').expect(201);
        expect(await userOf(browser)).toBe('alice');
        expect((await browser.get('/messages')).body).toEqual({ error: NOTICE });
        expect((await second.browser.get('/messages')).body).toEqual({ error: NOTICE });
        expect(await userOf(browser)).toBe('alice');
      });

      it.each(['throw', 'anonymous'] as const)(
        'when the store can be asked for it again (onStoreError: %s)',
        async (onStoreError) => {
          await start({ maxSessionsPerUser: 1 }, { options: { onStoreError } });
          const { browser } = await login();
          served.clock.pass(1);
          await login();
          served.store.fail('destroy');
          const response = await browser.get('/messages');
          expect([response.status, response.body.error ?? null, sessionCookies(response)]).toEqual([
            onStoreError === 'throw' ? 503 : 200,
            null,
            [],
          ]);
          served.store.recover();
          expect((await browser.get('/messages')).body).toEqual({ error: NOTICE });
        },
      );

      it('but not after the time of its session; the notice ends with that', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        served.clock.pass(1000);
        await login();
        expect(await sessions.count()).toBe(2);
        served.clock.pass(86_400 - 1000);
        expect((await browser.get('/messages')).body).toEqual({ error: null });
        expect(await sessions.count()).toBe(1);
      });

      it('and the session of a request under way cannot come back', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        served.clock.pass(1);
        const held = served.store.hold('commit');
        const writing = Promise.resolve(browser.copy().post('/note', { text: 'late' }));
        await held.reached;
        await login();
        held.release();
        expect(sessionCookies(await writing)).toEqual([]);
        expect((await browser.get('/messages')).body).toEqual({ error: NOTICE });
        expect(await userOf(browser)).toBeNull();
      });

      it('the end of it is an event, and its next request none: the cookie was no forgery', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser, id } = await login();
        served.clock.pass(1);
        const seen: unknown[] = [];
        sessions.events.subscribe((event) => seen.push(event));
        const second = await login();
        await browser.get('/messages');
        expect(seen).toEqual([
          { type: 'created', id: second.id, userId: 'alice' },
          { type: 'destroyed', id, userId: 'alice' },
        ]);
      });

      it('costs a list at each login, and two calls for each session that has to go', async () => {
        await start({ maxSessionsPerUser: 2 });
        const calls: string[] = served.store.calls;
        const { listByUser } = served.store;
        served.store.listByUser = (userId) => {
          calls.push('list');
          return listByUser(userId);
        };
        const costs = async () => {
          served.store.drain();
          await login();
          served.clock.pass(1);
          return served.store.drain();
        };
        expect([await costs(), await costs(), await costs()]).toEqual([
          ['create', 'list'],
          ['create', 'list'],
          ['create', 'list', 'create', 'destroy'],
        ]);
        const { browser } = await login('bob');
        served.store.drain();
        await browser.post('/note', { text: 'no login' });
        await browser.post('/login/bob');
        await browser.post('/regenerate');
        // The last one is whether his sessions are being ended, for which the new id may have come too late.
        expect(served.store.drain()).toEqual(['load', 'commit', 'load', 'load', 'rotate', 'load']);
      });

      it('and nothing without the option', async () => {
        await start();
        const lists: string[] = [];
        served.store.listByUser = async (userId) => {
          lists.push(userId);
          return new Map();
        };
        await login();
        expect([served.store.drain(), lists]).toEqual([['create'], []]);
      });

      it('of two logins at the same instant one stays, in whatever order the store lists them', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { listByUser } = served.store;
        let lists = 0;
        let bothListed = (): void => {};
        const listed = new Promise<void>((resolve) => (bothListed = resolve));
        const held = [served.store.hold('create'), served.store.hold('create')];
        const browsers = [served.browser(), served.browser()];
        const logins = browsers.map((browser) => Promise.resolve(browser.post('/login/alice')));
        await Promise.all(held.map(({ reached }) => reached));
        // Each lists when both are stored, and before the other has ended any.
        served.store.listByUser = async (userId) => {
          const first = ++lists === 1;
          if (!first) bothListed();
          await listed;
          const entries = [...(await listByUser(userId))].toSorted(([a], [b]) => (a < b ? -1 : 1));
          return new Map(first ? entries : entries.toReversed());
        };
        for (const { release } of held) release();
        await Promise.all(logins);
        served.store.listByUser = listByUser;
        expect(await idsOf()).toHaveLength(1);
      });

      it('a session whose time is over is told that, and asks for no notice', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        served.clock.pass(86_400);
        served.store.drain();
        expect((await browser.get('/private')).body.message).toBe('Session expired');
        expect(served.store.drain()).toEqual(['load']);
      });

      it('a request without a cookie, or with one that was never known, asks no store for a notice', async () => {
        await start({ maxSessionsPerUser: 1 });
        served.store.drain();
        await served.browser().get('/me');
        const forger = served.browser();
        forger.cookies.set('session_id', `${'A'.repeat(43)}.${'A'.repeat(43)}`);
        await forger.get('/me');
        expect(served.store.drain()).toEqual([]);
      });

      it('without the option an unknown cookie costs one load', async () => {
        await start();
        const { browser, id } = await login();
        await sessions.revoke(id);
        served.store.drain();
        await browser.get('/me');
        expect(served.store.drain()).toEqual(['load']);
      });
    });

    describe('found in review:', () => {
      /** A login that has to make room and is held when it leaves the notice. */
      const loginHeldAtNotice = async (): Promise<{ release(): void; done: Promise<unknown> }> => {
        served.store.hold('create').release();
        const held = served.store.hold('create');
        const done = Promise.resolve(served.browser().post('/login/alice'));
        await held.reached;
        return { release: held.release, done };
      };

      it('revokeByUser ends a session that regenerates meanwhile', async () => {
        await start();
        const { browser } = await login();
        const held = served.store.hold('destroy');
        const revoking = sessions.revokeByUser('alice');
        await held.reached;
        await browser.post('/regenerate').expect(201);
        held.release();
        await revoking;
        expect(await userOf(browser)).toBeNull();
      });

      it('revokeByUser ends a session that gets another id each time the sessions have been listed', async () => {
        await start();
        const [stays, thief] = [await login(), (await login()).browser];
        const { listByUser } = served.store;
        let moves = 0;
        served.store.listByUser = async (userId) => {
          const listed = await listByUser(userId);
          // However fast it is: this one always comes between the list and what is done by it.
          if (++moves < 50) await thief.post('/regenerate').expect(201);
          return listed;
        };
        const seen: unknown[] = [];
        sessions.events.subscribe(({ type }) => seen.push(type));
        expect(await sessions.revokeByUser('alice', { except: stays.id })).toBe(0); // that request ended it itself
        // What it sends the second time is nobody's cookie any more.
        expect([moves, seen]).toEqual([2, ['destroyed', 'rejected']]);
        served.store.listByUser = listByUser;
        expect(await userOf(thief)).toBeNull();
        expect([await idsOf(), await userOf(stays.browser)]).toEqual([[stays.id], 'alice']);
        expect(await sessions.count()).toBe(1);
        // And that was that: new ids are given again.
        await stays.browser.post('/regenerate').expect(201);
        const again = await login();
        await again.browser.post('/regenerate').expect(201);
        expect([await userOf(stays.browser), await userOf(again.browser)]).toEqual(['alice', 'alice']);
      });

      it('revokeByUser leaves the session that stays its new id', async () => {
        await start();
        const [stays, other] = [await login(), await login()];
        const held = served.store.hold('destroy');
        const revoking = sessions.revokeByUser('alice', { except: stays.id });
        await held.reached;
        await stays.browser.post('/regenerate').expect(201);
        held.release();
        expect(await revoking).toBe(1);
        expect([await userOf(stays.browser), await userOf(other.browser)]).toEqual(['alice', null]);
      });

      it('a new id that nobody can say is to stay is given to nobody', async () => {
        await start();
        const { browser } = await login();
        const held = served.store.hold('rotate');
        const moving = Promise.resolve(browser.post('/regenerate'));
        await held.reached;
        served.store.fail('load');
        held.release();
        const answer = await moving;
        served.store.recover();
        expect([answer.status, sessionCookies(answer)]).toEqual([503, []]);
        expect([await idsOf(), await sessions.count()]).toEqual([[], 0]);
      });

      it('two at once end all of them', async () => {
        await start();
        const [first, second] = [await login(), await login()];
        const counts = await Promise.all([sessions.revokeByUser('alice'), sessions.revokeByUser('alice')]);
        expect(counts[0] + counts[1]).toBe(2);
        expect([await userOf(first.browser), await userOf(second.browser)]).toEqual([null, null]);
        expect(await sessions.count()).toBe(0);
      });

      it('a store that cannot list is asked nothing by revokeByUser', async () => {
        await start();
        Object.assign(served.store, { listByUser: undefined });
        const { browser } = await login();
        served.store.drain();
        await expect(sessions.revokeByUser('alice')).rejects.toMatchObject({
          code: 'E_SESSION_STORE_UNSUPPORTED',
        });
        expect(served.store.drain()).toEqual([]);
        await browser.post('/regenerate').expect(201);
        expect(served.store.drain()).toEqual(['load', 'rotate']);
      });

      it('a session that regenerates while it has to make room goes all the same', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        served.clock.pass(1);
        const second = await loginHeldAtNotice();
        await browser.post('/regenerate').expect(201);
        second.release();
        await second.done;
        expect(await userOf(browser)).toBeNull();
      });

      it('a late request of a session that regenerated while it had to make room sets no cookie', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        const late = browser.copy();
        served.clock.pass(1);
        const second = await loginHeldAtNotice();
        await browser.post('/regenerate').expect(201);
        second.release();
        await second.done;
        expect(sessionCookies(await late.get('/me'))).toEqual([]);
      });

      it('a session that logs out while it has to make room leaves no notice', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        const twin = browser.copy();
        served.clock.pass(1);
        const second = await loginHeldAtNotice();
        await browser.post('/logout').expect(201);
        second.release();
        await second.done;
        expect((await twin.get('/messages')).body).toEqual({ error: null });
        expect(await sessions.count()).toBe(1);
      });

      it('a notice outlives a request that fails', async () => {
        await start({ maxSessionsPerUser: 1 });
        const { browser } = await login();
        served.clock.pass(1);
        await login();
        expect((await browser.get('/broken')).status).toBe(500);
        expect((await browser.get('/messages')).body).toEqual({ error: NOTICE });
      });

      it('a login that is answered 503, because the others cannot be listed, is none', async () => {
        await start({ maxSessionsPerUser: 1 });
        const first = await login();
        served.clock.pass(1);
        const { listByUser } = served.store;
        served.store.listByUser = () => Promise.reject(new Error('connection refused'));
        const browser = served.browser();
        const { status } = await browser.post('/login/alice');
        served.store.listByUser = listByUser;
        expect(await userOf(first.browser)).toBe('alice');
        expect(await userOf(browser)).toBe(status === 503 ? null : 'alice');
      });

      it('of two logins at the same instant, one after the other, the second stays', async () => {
        await start({ maxSessionsPerUser: 1 });
        for (let round = 0; round < 10; round++) expect(await userOf((await login()).browser)).toBe('alice');
      });
    });
  });

  it.each([0, -1, 1.5, '3', Number.NaN])('maxSessionsPerUser: %p stops the boot', async (limit) => {
    await expect(
      serve(adapter, {
        controllers: [],
        options: { auth: { maxSessionsPerUser: limit as number } },
      }),
    ).rejects.toMatchObject({ code: 'E_SESSION_CONFIGURATION', option: 'auth.maxSessionsPerUser' });
  });

  it('maxSessionsPerUser stops the boot with a store that cannot list', async () => {
    const store = Object.assign(new MemoryStore(), { listByUser: undefined });
    @Module({ imports: [SessionModule.forRoot({ secret: SECRET, store, auth: { maxSessionsPerUser: 1 } })] })
    class Root {}
    await expect(createApp(adapter, Root)).rejects.toThrow(
      'Session option auth.maxSessionsPerUser: it needs a store that can list the sessions of a user, and MemoryStore has no listByUser().',
    );
  });
});
