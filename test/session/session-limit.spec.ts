import { Module } from '@nestjs/common';
import { ApolloDriver, type ApolloDriverConfig } from '@nestjs/apollo';
import { GraphQLModule } from '@nestjs/graphql';
import { MemoryStore, type SessionManager, SessionModule } from 'nest-session';
import {
  type Browser,
  createApp,
  onBothAdapters,
  SECRET,
  serve,
  type Served,
  sessionCookies,
} from '../support/app.js';
import { MessagesResolver, UserController } from '../support/user-controller.js';

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
