import {
  CookieStore,
  MemoryStore,
  type SessionManager,
  type SessionModuleOptions,
  type SessionStore,
} from 'nest-session';
import { type Browser, onBothAdapters, serve, type Served } from '../support/app.js';
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

      it('into cookies, and the answer with the new cookie never arrives', async () => {
        const browser = await begun();
        await sessions.useStore(inCookies(), { migrate: true });
        await cart(browser.copy());
        served.clock.pass(60);
        expect(await cart(browser)).toEqual({ cart: ['pen'] });
        expect(browser.cookie).toMatch(/^session_id=1\./);
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

    describe('found in review:', () => {
      const inCookies = (): CookieStore =>
        new CookieStore({ revocations: new MemoryStore({ clock: served.clock.read }) });

      it('back to the first store: sessions that had moved move back', async () => {
        const browser = await begun();
        await sessions.useStore(next, { migrate: true });
        await cart(browser);
        await sessions.useStore(served.store, { migrate: true });
        expect(await cart(browser)).toEqual({ cart: ['pen'] });
        expect(await cart(browser)).toEqual({ cart: ['pen'] });
      });

      it('back to the first store: a session that never moved counts once', async () => {
        await begun();
        await sessions.useStore(next, { migrate: true });
        await sessions.useStore(served.store, { migrate: true });
        expect(await sessions.count()).toBe(1);
      });

      it('to the store that is in use: a session counts once', async () => {
        await begun();
        await sessions.useStore(served.store, { migrate: true });
        expect(await sessions.count()).toBe(1);
      });

      it.each(['/login', '/regenerate'])(
        '%s, while the old store cannot be told of it, does not lose the session',
        async (path) => {
          const browser = await begun();
          await sessions.useStore(next, { migrate: true });
          await cart(browser);
          served.store.fail('destroy');
          await browser.post(path);
          served.store.recover();
          expect(await cart(browser)).toMatchObject({ cart: ['pen'] });
        },
      );

      it.each(['old', 'new'])(
        'an operation that the %s store never answers shuts no session for good',
        async (which) => {
          await restart({ storeTimeout: '200ms' });
          const browser = await begun();
          await sessions.useStore(next, { migrate: true });
          const store = which === 'old' ? served.store : next;
          store.hang('load');
          expect((await browser.get('/')).status).toBe(503);
          store.recover();
          const statuses: number[] = [];
          while (statuses.length < 8 && !statuses.includes(200)) {
            statuses.push((await browser.get('/')).status);
          }
          expect(statuses).toContain(200);
        },
      );

      it('a session too large for the new store is not shut out', async () => {
        const browser = await begun();
        const large = 'x'.repeat(20_000);
        await browser.post('/set', { large }).expect(201);
        await sessions.useStore(inCookies(), { migrate: true });
        expect((await browser.get('/')).status).toBe(200);
        served.clock.pass(20);
        expect(await cart(browser)).toEqual({ cart: ['pen'], large });
        expect((await browser.post('/logout')).status).toBe(201);
      });

      it('into cookies: what the old cookie leads to is older than what a new one has', async () => {
        const browser = await begun();
        // As a socket keeps the cookie of its handshake.
        const reference = browser.copy();
        await sessions.useStore(inCookies(), { migrate: true });
        await cart(browser);
        served.clock.pass(20);
        await browser.post('/set', { b: 1 }).expect(201);
        served.clock.pass(20);
        await cart(reference);
        expect(await cart(browser)).toEqual({ cart: ['pen'], b: 1 });
      });

      it('out of cookies: what a slow handler writes after the switch is saved', async () => {
        await sessions.useStore(inCookies());
        const browser = await begun();
        const writing = Promise.resolve(browser.post('/set-later', { late: 1 }));
        await pause.reached;
        await sessions.useStore(next, { migrate: true });
        served.clock.pass(20);
        pause.release();
        expect((await writing).status).toBe(201);
        expect(await cart(browser)).toEqual({ cart: ['pen'], late: 1 });
      });

      it.each(['a new', 'an old'])(
        'out of cookies: %s session, saved before the switch and answered after it, is found later',
        async (age) => {
          await sessions.useStore(inCookies());
          const browser = age === 'a new' ? served.browser() : await begun();
          const writing = Promise.resolve(browser.post('/save', { saved: 1 }));
          await pause.reached;
          await sessions.useStore(next, { migrate: true });
          pause.release();
          expect((await writing).status).toBe(201);
          served.clock.pass(20);
          expect(await cart(browser)).toMatchObject({ saved: 1 });
        },
      );
    });
  });
});
