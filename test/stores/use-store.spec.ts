import {
  CookieStore,
  MemoryStore,
  Session,
  type SessionManager,
  type SessionModuleOptions,
  type SessionStore,
} from 'nest-session';
import { MigratingStore } from '../../lib/stores/migrating.store.js';
import { type Browser, onBothAdapters, serve, type Served, sessionCookies } from '../support/app.js';
import { atPause, CartController, Pause } from '../support/cart-controller.js';
import { HeldStore } from '../support/held-store.js';

onBothAdapters((adapter) => {
  describe('useStore', () => {
    let served: Served;
    let sessions: SessionManager;
    let next: HeldStore;
    let pause: Pause;
    const start = async (options: Partial<SessionModuleOptions> = {}) => {
      served = await serve(adapter, { controllers: [CartController], options });
      sessions = served.sessions;
      next = new HeldStore(undefined, served.clock.read);
    };
    const restart = async (options: Partial<SessionModuleOptions>) => {
      await served.close();
      await start(options);
    };
    beforeEach(async () => {
      pause = new Pause();
      atPause.pause = pause;
      await start();
    });
    afterEach(() => served.close());

    const cart = async (browser: Browser) => (await browser.get('/').expect(200)).body as object;
    const begun = async (): Promise<Browser> => {
      const browser = served.browser();
      await browser.post('/set', { cart: ['pen'] }).expect(201);
      return browser;
    };
    const count = (store: SessionStore): Promise<number> | undefined => store.count?.();

    describe('with migrate', () => {
      it('puts new sessions into the new store', async () => {
        await sessions.useStore(next, { migrate: true });
        expect(await cart(await begun())).toEqual({ cart: ['pen'] });
        expect([await count(served.store), await count(next)]).toEqual([0, 1]);
      });

      it('moves a session of the old store when it is next used, and only that', async () => {
        const [one] = [await begun(), await begun()];
        await sessions.useStore(next, { migrate: true });
        expect([await count(served.store), await count(next)]).toEqual([2, 0]);
        expect(await cart(one)).toEqual({ cart: ['pen'] });
        expect([await count(served.store), await count(next)]).toEqual([1, 1]);
        expect(await cart(one)).toEqual({ cart: ['pen'] });
      });

      it('moves it whole: user, times and messages', async () => {
        const browser = await begun();
        await browser.post('/login');
        const [before] = await sessions.listByUser('alice');
        await sessions.useStore(next, { migrate: true });
        expect(await sessions.listByUser('alice')).toEqual([before]);
        await cart(browser);
        expect(await sessions.listByUser('alice')).toEqual([before]);
        expect(await next.listByUser('alice')).toHaveProperty('size', 1);
      });

      it('a logout reaches both stores, moved or not', async () => {
        const [moved, unmoved] = [await begun(), await begun()];
        const copies = [moved.copy(), unmoved.copy()];
        await sessions.useStore(next, { migrate: true });
        await cart(moved);
        await moved.post('/logout');
        await unmoved.post('/logout');
        for (const copy of copies) expect(await cart(copy)).toEqual({});
        expect([await count(served.store), await count(next)]).toEqual([0, 0]);
      });

      it('a revocation from outside reaches a session that has not moved', async () => {
        const browser = await begun();
        await browser.post('/login');
        await sessions.useStore(next, { migrate: true });
        expect(await sessions.revokeByUser('alice')).toBe(1);
        expect(await cart(browser)).toEqual({});
      });

      it('parallel first requests all find the session, and merge', async () => {
        const browser = await begun();
        await sessions.useStore(next, { migrate: true });
        await Promise.all(
          ['a', 'b', 'c', 'd'].map((key) =>
            browser
              .copy()
              .post('/set', { [key]: key })
              .expect(201),
          ),
        );
        expect(await cart(browser)).toEqual({ cart: ['pen'], a: 'a', b: 'b', c: 'c', d: 'd' });
      });

      it('a request that began before the switch saves what it wrote', async () => {
        const browser = await begun();
        const held = served.store.hold('load');
        const writing = Promise.resolve(browser.copy().post('/set', { late: 1 }));
        await held.reached;
        await sessions.useStore(next, { migrate: true });
        held.release();
        expect((await writing).status).toBe(201);
        expect(await cart(browser)).toEqual({ cart: ['pen'], late: 1 });
        expect([await count(served.store), await count(next)]).toEqual([0, 1]);
      });

      it('a commit that is under way in the old store is waited for before its session moves', async () => {
        const browser = await begun();
        const held = served.store.hold('commit');
        const writing = Promise.resolve(browser.copy().post('/set', { late: 1 }));
        await held.reached;
        await sessions.useStore(next, { migrate: true });
        const reading = Promise.resolve(browser.get('/'));
        held.release();
        expect((await writing).status).toBe(201);
        expect((await reading).body).toEqual({ cart: ['pen'], late: 1 });
      });

      it('nothing moves before what was under way in the old store has ended', async () => {
        const browser = await begun();
        const held = served.store.hold('commit');
        const writing = Promise.resolve(browser.copy().post('/set', { late: 1 }));
        await held.reached;
        await sessions.useStore(next, { migrate: true });
        const looking = next.hold('load');
        const reading = browser.begin('/');
        await looking.reached;
        served.store.drain();
        looking.release();
        for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
        expect(served.store.drain()).toEqual([]);
        held.release();
        expect((await writing).status).toBe(201);
        expect((await reading).body).toEqual({ cart: ['pen'], late: 1 });
      });

      it('a request that began before the switch cannot bring back what was logged out after it', async () => {
        const browser = await begun();
        const held = served.store.hold('load');
        const writing = Promise.resolve(browser.copy().post('/set', { late: 1 }));
        await held.reached;
        await sessions.useStore(next, { migrate: true });
        const out = Promise.resolve(browser.copy().post('/logout'));
        held.release();
        await Promise.all([writing, out]);
        expect(await cart(browser)).toEqual({});
        expect([await count(served.store), await count(next)]).toEqual([0, 0]);
      });

      it('regenerates a session that has not moved', async () => {
        const browser = await begun();
        const copy = browser.copy();
        await sessions.useStore(next, { migrate: true });
        await browser.post('/regenerate').expect(201);
        expect(await cart(browser)).toEqual({ cart: ['pen'] });
        expect(await cart(copy)).toEqual({});
        expect([await count(served.store), await count(next)]).toEqual([0, 1]);
      });

      it('no request fails or loses its session, whatever goes on', async () => {
        const browsers = await Promise.all(Array.from({ length: 20 }, begun));
        const keep = async (browser: Browser, index: number): Promise<void> => {
          for (let round = 0; round < 6; round++) {
            await browser.post('/set', { [`r${round}`]: index }).expect(201);
            if (round === 3 && index % 3 === 0) await browser.post('/login').expect(201);
            expect(await cart(browser)).toMatchObject({ cart: ['pen'], [`r${round}`]: index });
          }
        };
        const all = Promise.all(browsers.map(keep));
        await sessions.useStore(next, { migrate: true });
        const third = new MemoryStore({ clock: served.clock.read });
        await sessions.useStore(third, { migrate: true });
        await all;
        for (const [index, browser] of browsers.entries()) {
          expect(await cart(browser)).toMatchObject({ cart: ['pen'], r0: index, r5: index });
        }
        expect(await sessions.count()).toBe(20);
        await third.close();
      });

      it('counts, sweeps and clears both', async () => {
        const [one] = [await begun(), await begun()];
        await sessions.useStore(next, { migrate: true });
        await cart(one);
        expect(await sessions.count()).toBe(2);
        served.clock.pass(90_000);
        expect(await sessions.sweep()).toBe(2);
        await begun();
        await sessions.clear();
        expect(await sessions.count()).toBe(0);
      });

      it('ends when it is called again without', async () => {
        const [one, two] = [await begun(), await begun()];
        await sessions.useStore(next, { migrate: true });
        await cart(one);
        await sessions.useStore(next);
        expect(await cart(one)).toEqual({ cart: ['pen'] });
        expect(await cart(two)).toEqual({});
        expect(sessions.store).toBe(next);
      });

      it('extends a session that it moves, cookie and record', async () => {
        const browser = await begun();
        await sessions.useStore(next, { migrate: true });
        served.clock.pass(80_000);
        expect(sessionCookies(await browser.get('/'))).toHaveLength(1);
        served.clock.pass(80_000);
        expect(await cart(browser)).toEqual({ cart: ['pen'] });
      });

      it('ends a session whose time is over in the old store, and its cookie', async () => {
        const [browser, twin] = [await begun(), served.browser()];
        twin.cookies.set('session_id', (browser.cookie as string).slice('session_id='.length));
        await sessions.useStore(next, { migrate: true });
        const seen: string[] = [];
        sessions.events.subscribe(({ type }) => seen.push(type));
        served.clock.pass(86_400);
        expect(await cart(browser)).toEqual({});
        expect(browser.cookie).toBeUndefined();
        expect(await cart(twin)).toEqual({});
        expect(seen).toEqual(['expired', 'rejected']);
        expect([await count(served.store), await count(next)]).toEqual([0, 0]);
      });

      it('ends a session whose time is over in the new store, and its cookie', async () => {
        const browser = await begun();
        await sessions.useStore(next, { migrate: true });
        await cart(browser);
        served.clock.pass(86_400);
        await cart(browser);
        expect(browser.cookie).toBeUndefined();
      });

      it('moves a session for a socket as well, which can write to it', async () => {
        const browser = await begun();
        await sessions.useStore(next, { migrate: true });
        const handshake = { headers: { cookie: browser.cookie } };
        const session = (await sessions.open(handshake)) as Session<any>;
        session.set('from', 'the socket');
        await session.save();
        expect([await count(served.store), await count(next)]).toEqual([0, 1]);
        expect(await cart(browser)).toEqual({ cart: ['pen'], from: 'the socket' });
      });

      it('finds, lists and revokes a session by its id wherever it is', async () => {
        const browser = await begun();
        await browser.post('/login');
        const [info] = await sessions.listByUser('alice');
        await sessions.useStore(next, { migrate: true });
        expect(await sessions.find(info.id)).toEqual(info);
        const other = await begun();
        await other.post('/login');
        expect(await sessions.listByUser('alice')).toHaveLength(2);
        expect(await sessions.revokeByUser('alice', { except: info.id })).toBe(1);
        expect(await sessions.revoke(info.id)).toBe(true);
        expect(await sessions.revoke(info.id)).toBe(false);
        expect([await cart(browser), await cart(other)]).toEqual([{}, {}]);
      });

      it('keeps to maxSessionsPerUser over both stores, and tells whoever had to go', async () => {
        await restart({ auth: { maxSessionsPerUser: 2 } });
        const browsers = [];
        for (const at of [0, 1, 2]) {
          const browser = await begun();
          if (at === 1) await sessions.useStore(next, { migrate: true });
          await browser.post('/login');
          served.clock.pass(1);
          browsers.push(browser);
        }
        expect(await sessions.listByUser('alice')).toHaveLength(2);
        const [first] = browsers;
        expect(await cart(first)).toEqual({});
        const told = (await sessions.open({ headers: { cookie: first.cookie } })) as Session<any>;
        expect(told.flash.peek('error')).toMatch('signed in elsewhere');
        expect(await cart(browsers[1])).toMatchObject({ userId: 'alice' });
      });

      it.each([
        ['create', '/set', { cart: ['ink'] }, { cart: ['ink'] }],
        ['commit', '/set', { a: 1 }, { cart: ['pen'], a: 1 }],
        ['rotate', '/regenerate', {}, { cart: ['pen'] }],
        ['rotate', '/login', {}, { cart: ['pen'], userId: 'alice' }],
        ['destroy', '/logout', {}, {}],
      ] as const)('two switches while a %s of %s is under way lose nothing', async (...step) => {
        const [operation, path, body, expected] = step;
        const browser = operation === 'create' ? served.browser() : await begun();
        const third = new HeldStore(undefined, served.clock.read);
        const held = served.store.hold(operation);
        const under = Promise.resolve(browser.post(path, body));
        await held.reached;
        await sessions.useStore(next, { migrate: true });
        await sessions.useStore(third, { migrate: true });
        held.release();
        expect((await under).status).toBe(201);
        expect(await cart(browser)).toEqual(expected);
        const moved = Object.keys(expected).length === 0 ? 0 : 1;
        expect([await count(served.store), await count(next), await count(third)]).toEqual([0, 0, moved]);
      });

      it('knows nothing of an id that neither store has', async () => {
        const browser = await begun();
        await sessions.useStore(next, { migrate: true });
        await sessions.clear();
        const response = await browser.get('/').expect(200);
        expect([response.body, sessionCookies(response)]).toEqual([{}, []]);
      });

      describe('when a store cannot be reached in the middle of a move', () => {
        it.each(
          [
            ['old', 'load'],
            ['old', 'destroy'],
            ['new', 'load'],
            ['new', 'create'],
          ].flatMap(([which, operation]) =>
            ['/set', '/login', '/regenerate', '/logout', '/'].map((path) => [which, operation, path]),
          ) as ['old' | 'new', 'load' | 'create' | 'destroy', string][],
        )('the %s one, to %s: %s is a 503, and nothing is lost', async (which, operation, path) => {
          const browser = await begun();
          await sessions.useStore(next, { migrate: true });
          const store = which === 'old' ? served.store : next;
          store.fail(operation);
          const response = await (path === '/' ? browser.get(path) : browser.post(path, { a: 1 }));
          expect([response.status, sessionCookies(response)]).toEqual([503, []]);
          store.recover();
          expect(await cart(browser)).toEqual({ cart: ['pen'] });
        });

        it('a session that has moved, and a new one, do not need the old one', async () => {
          const browser = await begun();
          await sessions.useStore(next, { migrate: true });
          await cart(browser);
          served.store.fail('create', 'load', 'touch', 'commit', 'rotate', 'destroy');
          await browser.post('/set', { a: 1 }).expect(201);
          expect(await cart(browser)).toEqual({ cart: ['pen'], a: 1 });
          expect(await cart(await begun())).toEqual({ cart: ['pen'] });
        });

        it('a logout that does not reach the old one says so', async () => {
          const browser = await begun();
          await sessions.useStore(next, { migrate: true });
          await cart(browser);
          served.store.fail('destroy');
          const response = await browser.post('/logout');
          expect([response.status, sessionCookies(response)]).toEqual([503, []]);
        });

        it('where that is to be tolerated, the request goes on without its session, which is not lost', async () => {
          await restart({ onStoreError: 'anonymous' });
          const browser = await begun();
          await sessions.useStore(next, { migrate: true });
          for (const [store, operation] of [
            [served.store, 'load'],
            [next, 'create'],
            [served.store, 'destroy'],
          ] as const) {
            store.fail(operation);
            expect(await cart(browser)).toEqual({});
            store.recover();
          }
          expect(await cart(browser)).toEqual({ cart: ['pen'] });
        });
      });

      it('closes every store that was in use, once, with the application', async () => {
        const closed: string[] = [];
        const other = await serve(adapter, { controllers: [] });
        const stores = ['second', 'third'].map((name) =>
          Object.assign(new MemoryStore(), { close: async () => void closed.push(name) }),
        );
        other.store.close = async () => void closed.push('first');
        for (const store of [...stores, ...stores]) await other.sessions.useStore(store, { migrate: true });
        expect(closed).toEqual([]);
        await other.close();
        expect(closed.toSorted()).toEqual(['first', 'second', 'third']);
      });

      it('closes both stores with the application', async () => {
        const closed: string[] = [];
        const other = await serve(adapter, { controllers: [] });
        other.store.close = async () => void closed.push('old');
        next.close = async () => void closed.push('new');
        await other.sessions.useStore(next, { migrate: true });
        await other.close();
        expect(closed.toSorted()).toEqual(['new', 'old']);
      });
    });

    describe('without migrate', () => {
      it('ends the sessions of the old store', async () => {
        const browser = await begun();
        await sessions.useStore(next);
        expect(await cart(browser)).toEqual({});
        expect(await cart(await begun())).toEqual({ cart: ['pen'] });
        expect(sessions.store).toBe(next);
      });

      it('a request under way cannot write to the new store under the old id', async () => {
        const browser = await begun();
        const held = served.store.hold('load');
        const writing = Promise.resolve(browser.post('/set', { late: 1 }));
        await held.reached;
        await sessions.useStore(next);
        held.release();
        await writing;
        expect(await count(next)).toBe(0);
      });
    });

    it('changes nothing when the new store cannot be reached', async () => {
      const browser = await begun();
      const unreachable = Object.assign(new MemoryStore(), {
        ping: () => Promise.reject(new Error('refused')),
      });
      await expect(sessions.useStore(unreachable, { migrate: true })).rejects.toMatchObject({
        code: 'E_SESSION_STORE_UNAVAILABLE',
      });
      expect(sessions.store).toBe(served.store);
      expect(await cart(browser)).toEqual({ cart: ['pen'] });
    });

    it('changes nothing when it cannot list the sessions of a user, and has to', async () => {
      await restart({ auth: { maxSessionsPerUser: 1 } });
      const browser = await begun();
      const pinged: string[] = [];
      const mute = Object.assign(new MemoryStore(), {
        listByUser: undefined,
        ping: async () => void pinged.push('ping'),
      });
      for (const migrate of [true, false]) {
        await expect(sessions.useStore(mute, { migrate })).rejects.toThrow(
          'auth.maxSessionsPerUser: it needs a store that can list the sessions of a user, and MemoryStore has no listByUser().',
        );
      }
      expect([sessions.store, pinged]).toEqual([served.store, []]);
      expect(await cart(browser)).toEqual({ cart: ['pen'] });
    });

    it('asks the new store whether it can be reached before anything changes', async () => {
      let answer = (): void => {};
      let asked = (): void => {};
      const wasAsked = new Promise<void>((resolve) => (asked = resolve));
      const slow = Object.assign(new MemoryStore({ clock: served.clock.read }), {
        ping: () => {
          asked();
          return new Promise<void>((resolve) => (answer = resolve));
        },
      });
      const switching = sessions.useStore(slow, { migrate: true });
      await wasAsked;
      await begun();
      expect([await count(served.store), await count(slow)]).toEqual([1, 0]);
      answer();
      await switching;
      await begun();
      expect([await count(served.store), await count(slow)]).toEqual([1, 1]);
    });

    it('changes nothing when it is no store', async () => {
      await expect(sessions.useStore({} as SessionStore)).rejects.toThrow('this one has no create()');
      expect(sessions.store).toBe(served.store);
    });
  });
});

it('two stores of which one cannot list or count cannot either', () => {
  const memory = new MemoryStore();
  const { listByUser, count, clear, sweep } = new MigratingStore(new CookieStore(), memory);
  expect([listByUser, count, clear, sweep]).toEqual([undefined, undefined, undefined, undefined]);
  expect(new MigratingStore(memory, memory).sweep).toBeDefined();
});
