import { Body, Controller, Get, Post } from '@nestjs/common';
import { CookieStore, MemoryStore, Session, type SessionManager, type SessionStore } from 'nest-session';
import { MigratingStore } from '../lib/stores/migrating.store.js';
import { type Browser, onBothAdapters, type Served, serve } from './support/app.js';
import { HeldStore } from './support/held-store.js';

@Controller()
class CartController {
  @Get()
  show(@Session() session: Session<any>) {
    return { userId: session.userId, ...session.data };
  }

  @Post('set')
  set(@Session() session: Session<any>, @Body() body: object) {
    session.update(body);
  }

  @Post('login')
  async login(@Session() session: Session) {
    await session.login('alice');
  }

  @Post('logout')
  async logout(@Session() session: Session) {
    await session.logout();
  }

  @Post('regenerate')
  async regenerate(@Session() session: Session) {
    await session.regenerate();
  }
}

onBothAdapters((adapter) => {
  describe('useStore', () => {
    let served: Served;
    let sessions: SessionManager;
    let next: HeldStore;
    beforeEach(async () => {
      served = await serve(adapter, { controllers: [CartController] });
      sessions = served.sessions;
      next = new HeldStore(undefined, served.clock.read);
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

    it('changes nothing when it is no store', async () => {
      await expect(sessions.useStore({} as SessionStore)).rejects.toThrow('this one has no create()');
      expect(sessions.store).toBe(served.store);
    });

    describe('moves sessions between servers and browsers:', () => {
      const inCookies = (): CookieStore =>
        new CookieStore({ revocations: new MemoryStore({ clock: served.clock.read }) });

      it('into cookies', async () => {
        const browser = await begun();
        const reference = browser.copy();
        await sessions.useStore(inCookies(), { migrate: true });
        expect(await cart(browser)).toEqual({ cart: ['pen'] });
        expect(browser.cookie).toMatch(/^session_id=1\./);
        await browser.post('/set', { b: 1 });
        // The old cookie still leads to the session while requests of its browser may be under way.
        expect(await cart(reference)).toEqual({ cart: ['pen'], b: 1 });
        served.clock.pass(60);
        expect(await cart(browser)).toEqual({ cart: ['pen'], b: 1 });
        await browser.post('/logout').expect(201);
        for (const copy of [browser, reference]) expect(await cart(copy)).toEqual({});
      });

      it('out of cookies', async () => {
        await sessions.useStore(inCookies());
        const browser = await begun();
        expect(browser.cookie).toMatch(/^session_id=1\./);
        const sealed = browser.copy();
        served.clock.pass(60);
        await sessions.useStore(next, { migrate: true });
        const parallel = sealed.copy();
        await Promise.all([
          browser.post('/set', { b: 1 }).expect(201),
          parallel.post('/set', { c: 1 }).expect(201),
        ]);
        expect(browser.cookie).not.toMatch(/^session_id=1\./);
        expect(await cart(browser)).toEqual({ cart: ['pen'], b: 1, c: 1 });
        expect(await count(next)).toBe(1);
        await browser.post('/logout');
        served.clock.pass(3600);
        // The sealed cookie was revoked when its session moved.
        for (const copy of [sealed, parallel]) expect(await cart(copy)).toEqual({});
      });

      it('from cookies to cookies of another audience', async () => {
        await sessions.useStore(new CookieStore());
        const browser = await begun();
        served.clock.pass(60);
        await sessions.useStore(new CookieStore({ audience: 'new' }), { migrate: true });
        expect(await cart(browser)).toEqual({ cart: ['pen'] });
        await sessions.useStore(new CookieStore({ audience: 'new' }));
        expect(await cart(browser)).toEqual({ cart: ['pen'] });
      });
    });
  });
});

it('two stores of which one cannot list or count cannot either', () => {
  const memory = new MemoryStore();
  const { listByUser, count, clear, sweep } = new MigratingStore(new CookieStore(), memory);
  expect([listByUser, count, clear, sweep]).toEqual([undefined, undefined, undefined, undefined]);
  expect(new MigratingStore(memory, memory).sweep).toBeDefined();
});
