import { MemoryStore, type SessionManager } from 'nest-session';
import {
  type Browser,
  Clock,
  onBothAdapters,
  serve,
  type Served,
  sessionCookies,
  setCookies,
} from '../support/app.js';
import { SessionMiddlewareModule, UserController } from '../support/user-controller.js';

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

    describe('found in review:', () => {
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
    });
  });
});
