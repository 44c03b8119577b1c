import { Body, Controller, Get, Module, Param, Post, UseGuards } from '@nestjs/common';
import {
  AuthenticatedGuard,
  Flash,
  MemoryStore,
  Session,
  type SessionManager,
  SessionModule,
} from 'nest-session';
import { onBothAdapters, type Served, serve, type Browser, createApp, SECRET } from './support/app.js';

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

  @Get('private')
  @UseGuards(AuthenticatedGuard)
  secret(@Session() session: Session) {
    return { userId: session.userId };
  }
}

const NOTICE = 'You were signed out because you signed in elsewhere.';

onBothAdapters((adapter) => {
  describe('the sessions of a user', () => {
    let served: Served;
    let sessions: SessionManager;
    const start = async (auth: object = {}, trustProxy = false) => {
      served = await serve(adapter, { controllers: [UserController], options: { auth }, trustProxy });
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
      await start({}, true);
      await served.browser().post('/login/alice').set('X-Forwarded-For', '203.0.113.9');
      expect((await sessions.listByUser('alice'))[0].ip).toBe('203.0.113.9');
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

      it('a request without a cookie, or with one that was never known, asks no store for a notice', async () => {
        await start({ maxSessionsPerUser: 1 });
        served.store.drain();
        await served.browser().get('/me');
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
