import {
  CookieStore,
  FileStore,
  MemoryStore,
  Session,
  SessionManager,
  type SessionStore,
} from 'nest-session';
import { Browser, Clock, onBothAdapters, sessionCookies, setCookies } from '../../support/app.js';
import { ANONYMOUS, closeSites, headerOf, type Site, start } from '../../support/cookie-site.js';
import { HeldStore } from '../../support/held-store.js';
import { removeTemporary, temporaryFolder } from '../../support/temporary.js';

afterEach(closeSites);

onBothAdapters((adapter) => {
  describe('logout means logout: with revocations', () => {
    let clock: Clock;
    let revocations: MemoryStore;
    let one: Site;
    let two: Site;

    beforeEach(async () => {
      clock = new Clock();
      revocations = new MemoryStore({ clock: clock.read });
      [one, two] = [
        await start(adapter, { clock, store: { revocations } }),
        await start(adapter, { clock, store: { revocations } }),
      ];
    });

    /** A life with a login, a write, a new id and a logout: every cookie there was. */
    async function life(site: Site): Promise<string[]> {
      const browser = site.browser();
      const cookies: string[] = [];
      const step = async (sent: PromiseLike<unknown>) => {
        await sent;
        cookies.push(headerOf(browser.cookies));
      };
      await step(browser.get('/set?a=1'));
      await step(browser.get('/set?b=2'));
      await step(browser.post('/login', { as: 'alice' }));
      clock.pass(3600);
      await step(browser.get('/set?c=3'));
      await step(browser.post('/regenerate'));
      clock.pass(9000);
      await step(browser.get('/look'));
      const before = await site.look(cookies.at(-1) as string);
      expect(before.data).toEqual({ a: '1', b: '2', c: '3', userId: 'alice' });
      expect(sessionCookies(await browser.post('/logout'))).toEqual([
        expect.stringMatching(/^session_id=;.*Max-Age=0/),
      ]);
      expect(browser.cookie).toBeUndefined();
      return cookies;
    }

    it('every cookie from before it is anonymous, here and in another process, now and later', async () => {
      const cookies = await life(one);
      expect(new Set(cookies).size).toBe(6);
      const three = await start(adapter, { clock, store: { revocations } });
      for (const seconds of [0, 11, 700, 50_000]) {
        clock.pass(seconds);
        for (const cookie of cookies) {
          for (const site of [one, two, three]) expect(await site.look(cookie)).toEqual(ANONYMOUS);
        }
      }
    });

    it('which the other process hears of at once, though it has the session in use', async () => {
      const browser = one.browser();
      await browser.get('/set?a=1');
      const held = two.browserWith(browser.cookies);
      expect((await held.get('/look')).body.data).toEqual({ a: '1' });
      await browser.post('/logout');
      expect((await held.copy().get('/look')).body).toEqual(ANONYMOUS);
      await held.get('/set?b=2');
      expect((await held.get('/look')).body.data).toEqual({ b: '2' });
    });

    it.each([
      ['regenerate()', '/regenerate'],
      ['login()', '/login'],
    ])('%s gives a new id, and the cookies from before it are anonymous', async (_, path) => {
      const browser = one.browser();
      await browser.get('/set?a=1');
      const before = headerOf(browser.cookies);
      const { id } = await one.look(before);
      await browser.post(path, { as: 'alice' });
      const after = await one.look(browser.cookie as string);
      expect(after.id).not.toBe(id);
      expect(after.data).toMatchObject({ a: '1' });
      expect(await one.look(before)).toEqual(ANONYMOUS);
      expect(await two.look(before)).toEqual(ANONYMOUS);
      expect(await two.look(browser.cookie as string)).toEqual(after);
    });

    it('of two processes that give one session a new id at once, one does', async () => {
      const browser = one.browser();
      await browser.get('/set?a=1');
      const [here, there] = [browser, two.browserWith(browser.cookies)];
      const answers = await Promise.all([here.post('/regenerate'), there.post('/regenerate')]);
      expect(answers.map((answer) => sessionCookies(answer).length).sort()).toEqual([0, 1]);
    });

    it('manager.revoke() ends a session by its id', async () => {
      const browser = one.browser();
      await browser.post('/login', { as: 'alice' });
      const { id } = await one.look(browser.cookie as string);
      expect(await two.sessions.revoke(id as string)).toBe(true);
      expect(await one.look(browser.cookie as string)).toEqual(ANONYMOUS);
      expect(await two.look(browser.cookie as string)).toEqual(ANONYMOUS);
      expect(await two.sessions.revoke('no id')).toBe(false);
    });

    it('what is kept is an id that is none of a session, and nothing of the session', async () => {
      const browser = one.browser();
      await browser.post('/login', { as: 'alice' });
      const { id } = await one.look(browser.cookie as string);
      const noted = new HeldStore(revocations, clock.read);
      const ids: string[] = [];
      const create = noted.create;
      noted.create = (...args) => {
        ids.push(args[0]);
        expect([...args[1].fields]).toEqual([]);
        expect(args[1].userId).toBeUndefined();
        return create(...args);
      };
      const three = await start(adapter, { clock, store: { revocations: noted } });
      await three.browserWith(browser.cookies).post('/logout');
      expect(ids).toEqual([expect.stringMatching(/^[0-9a-f]{64}$/)]);
      expect(ids).not.toContain(id);
    });

    it('only until the session would have expired', async () => {
      const browser = one.browser();
      await browser.get('/set?a=1');
      const cookie = browser.cookie as string;
      await browser.post('/logout');
      expect(await revocations.count()).toBe(1);
      clock.pass(86_400 - 1);
      expect(await one.look(cookie)).toEqual(ANONYMOUS);
      expect(await revocations.count()).toBe(1);
      clock.pass(61);
      expect(await revocations.sweep()).toBe(1);
      expect(await revocations.count()).toBe(0);
      expect(await one.look(cookie)).toEqual(ANONYMOUS);
    });

    it('a visitor who logs out without a session leaves nothing there', async () => {
      await one.browser().post('/logout');
      expect(await revocations.count()).toBe(0);
    });

    it('a place for them that cannot be reached is a 503: nobody gets in unchecked, nobody is told goodbye', async () => {
      const failing = new HeldStore(revocations, clock.read);
      const three = await start(adapter, { clock, store: { revocations: failing } });
      const browser = three.browser();
      await browser.post('/login', { as: 'alice' });
      failing.fail('create');
      for (const path of ['/logout', '/regenerate']) {
        const refused = await browser.post(path);
        expect(refused.status).toBe(503);
        expect(setCookies(refused)).toEqual([]);
      }
      failing.fail('load');
      expect((await browser.get('/look')).status).toBe(503);
      failing.recover();
      expect((await browser.get('/look')).body.data).toEqual({ userId: 'alice' });
      await browser.post('/logout');
      expect(await three.look(headerOf(browser.cookies))).toEqual(ANONYMOUS);
    });

    it('a CookieStore is no place for them', () => {
      expect(() => new CookieStore({ revocations: new CookieStore() })).toThrow(
        'Session option CookieStore revocations: it takes a store that keeps its sessions itself.',
      );
      expect(() => new CookieStore({ revocations: {} as SessionStore })).toThrow('CookieStore revocations');
    });
  });

  describe('what revocations may not forget', () => {
    const bounded = (): CookieStore => new CookieStore({ revocations: new MemoryStore({ maxSessions: 50 }) });
    const refusal = {
      code: 'E_SESSION_CONFIGURATION',
      option: 'CookieStore revocations',
      message: expect.stringMatching(/MemoryStore with maxSessions \(50\).*use a store that evicts nothing/),
    };
    const warning = expect.stringMatching(
      /^CookieStore revocations: a MemoryStore forgets the ended sessions when this process ends.*durable/,
    );
    afterAll(removeTemporary);

    /** A login and a logout; the cookie from between. */
    async function loggedOut(site: Site): Promise<string> {
      const browser = site.browser();
      await browser.post('/login', { as: 'alice' });
      const cookie = headerOf(browser.cookies);
      await browser.post('/logout');
      expect(await site.look(cookie)).toEqual(ANONYMOUS);
      return cookie;
    }

    it('a MemoryStore that evicts stops the boot', async () => {
      await expect(start(adapter, { store: bounded() })).rejects.toMatchObject(refusal);
    });

    it('nor can it be switched to', async () => {
      const site = await start(adapter, { store: new MemoryStore() });
      const before = site.sessions.store;
      for (const migrate of [false, true]) {
        await expect(site.sessions.useStore(bounded(), { migrate })).rejects.toMatchObject(refusal);
      }
      expect(site.sessions.store).toBe(before);
    });

    it('one warning says that a MemoryStore forgets on a restart, which is true', async () => {
      const clock = new Clock();
      const fresh = () => ({ revocations: new MemoryStore({ clock: clock.read }) });
      const site = await start(adapter, { clock, store: fresh() });
      const cookie = await loggedOut(site);
      expect(site.log).toEqual([warning]);
      const restarted = await start(adapter, { clock, store: fresh() });
      expect((await restarted.look(cookie)).data).toEqual({ userId: 'alice' });
    });

    it('the warning comes when it is switched to, as well', async () => {
      const site = await start(adapter, { store: new MemoryStore() });
      await site.sessions.useStore(new CookieStore({ revocations: new MemoryStore() }), { migrate: true });
      expect(site.log).toEqual([warning]);
    });

    it('in a FileStore nothing is forgotten, by sixty more logouts and a restart, and nothing warned of', async () => {
      const clock = new Clock();
      const directory = await temporaryFolder();
      const again = () => ({ revocations: new FileStore({ directory, clock: clock.read }) });
      const site = await start(adapter, { clock, store: again() });
      const cookie = await loggedOut(site);
      for (let index = 0; index < 60; index++) {
        const visitor = site.browser();
        await visitor.get('/set?a=1');
        await visitor.post('/logout');
      }
      const restarted = await start(adapter, { clock, store: again() });
      expect(await restarted.look(cookie)).toEqual(ANONYMOUS);
      expect([...site.log, ...restarted.log]).toEqual([]);
    });
  });

  describe('without revocations', () => {
    it('one warning at boot says what a replay can do', async () => {
      const site = await start(adapter);
      const warnings = site.log.filter((line) => line.includes('CookieStore'));
      expect(warnings).toEqual([
        expect.stringMatching(
          /copy of a session cookie made before the logout is accepted after it.*revocations/,
        ),
      ]);
      await site.browser().get('/set?a=1');
      expect(site.log).toHaveLength(1);
    });

    it('which is true in another process, and no longer true of this one for a while', async () => {
      const clock = new Clock();
      const [one, two] = [await start(adapter, { clock }), await start(adapter, { clock })];
      const browser = one.browser();
      await browser.post('/login', { as: 'alice' });
      const cookie = browser.cookie as string;
      await browser.post('/logout');
      expect(browser.cookie).toBeUndefined();
      expect(await one.look(cookie)).toEqual(ANONYMOUS);
      expect((await two.look(cookie)).data).toEqual({ userId: 'alice' });
    });

    it.each(['/regenerate', '/login'])(
      'the cookie from before %s is anonymous in this process',
      async (path) => {
        const site = await start(adapter);
        const browser = site.browser();
        await browser.get('/set?a=1');
        const before = browser.cookie as string;
        await browser.post(path, { as: 'alice' });
        expect(await site.look(before)).toEqual(ANONYMOUS);
        expect((await browser.get('/look')).body.data).toMatchObject({ a: '1' });
      },
    );

    it.each([
      ['listByUser', (sessions: SessionManager) => sessions.listByUser('alice')],
      ['listByUser', (sessions: SessionManager) => sessions.revokeByUser('alice')],
      ['count', (sessions: SessionManager) => sessions.count()],
      ['clear', (sessions: SessionManager) => sessions.clear()],
      ['sweep', (sessions: SessionManager) => sessions.sweep()],
      ['find', (sessions: SessionManager) => sessions.find('0'.repeat(64))],
      ['find', (sessions: SessionManager) => sessions.get('0'.repeat(64))],
      ['revoke', (sessions: SessionManager) => sessions.revoke('0'.repeat(64))],
    ])('%s() is refused with a code, and an advice', async (power, ask) => {
      const site = await start(adapter);
      const error = (await ask(site.sessions).catch((problem: unknown) => problem)) as Error & {
        code: string;
      };
      expect(error.code).toBe('E_SESSION_STORE_UNSUPPORTED');
      expect(error.message).toContain(`CookieStore has no ${power}(). `);
      expect(error.message).toMatch(/MemoryStore|new CookieStore\(\{ revocations: aStore \}\)/);
    });
  });

  it('maxSessionsPerUser stops the boot: there is nothing to count', async () => {
    for (const store of [{}, { revocations: new MemoryStore() }]) {
      await expect(start(adapter, { store, options: { auth: { maxSessionsPerUser: 3 } } })).rejects.toThrow(
        'Session option auth.maxSessionsPerUser: it needs a store that can list the sessions of a user, and CookieStore',
      );
    }
  });

  it('with revocations a socket, or an answer under way, can log out: the cookie that stays is worth nothing', async () => {
    const clock = new Clock();
    const revocations = new MemoryStore({ clock: clock.read });
    const [one, two] = [
      await start(adapter, { clock, store: { revocations } }),
      await start(adapter, { clock, store: { revocations } }),
    ];
    for (const logout of [
      async (browser: Browser) =>
        ((await one.sessions.open({ headers: { cookie: browser.cookie } })) as Session).logout(),
      (browser: Browser) => browser.get('/late?what=logout'),
    ]) {
      const browser = one.browser();
      await browser.post('/login', { as: 'alice' });
      await logout(browser);
      for (const site of [one, two]) expect(await site.look(browser.cookie as string)).toEqual(ANONYMOUS);
    }
  });

  describe('without revocations, a logout that cannot delete the cookie is refused, not forgotten:', () => {
    it('on a socket', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      await browser.post('/login', { as: 'alice' });
      const session = await site.sessions.open({ headers: { cookie: browser.cookie } });
      await expect(session.logout()).rejects.toMatchObject({ code: 'E_SESSION_USAGE' });
    });

    it('once the headers have left', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      await browser.post('/login', { as: 'alice' });
      expect((await browser.get('/late?what=logout')).text).toContain('SessionUsageError');
    });
  });

  it('a logout outlives every cookie, also of a process that gives them longer', async () => {
    const clock = new Clock();
    const store = { revocations: new MemoryStore({ clock: clock.read }) };
    const long = await start(adapter, { clock, store, options: { maxAge: '7d' } });
    const short = await start(adapter, { clock, store, options: { maxAge: '1h' } });
    const browser = long.browser();
    await browser.post('/login', { as: 'alice' });
    const cookie = browser.cookie as string;
    await short.browserWith(browser.cookies).post('/logout');
    clock.pass(7200);
    expect(await long.look(cookie)).toEqual(ANONYMOUS);
  });
});
