import type { SessionModuleOptions } from 'nest-session';
import { type Browser, onBothAdapters, type Served, setCookies } from '../support/app.js';
import { type CsrfApp, serveGuarded } from '../support/csrf-app.js';

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;

  async function start(csrf: SessionModuleOptions['csrf'] = {}, more: CsrfApp = {}) {
    served = await serveGuarded(adapter, csrf, more);
    browser = served.browser();
  }
  afterEach(() => served.close());

  async function tokenOf(client: Browser = browser): Promise<string> {
    return (await client.get('/form')).body.token;
  }

  /** POST with the token in a header; what the browser would add is up to the test. */
  async function post(path: string, token?: string, headers: Record<string, string> = {}, client = browser) {
    const sent = client.post(path, {}).set(headers);
    if (token !== undefined) sent.set('X-CSRF-Token', token);
    return sent;
  }

  const invalid = { statusCode: 403, message: 'Invalid CSRF token', code: 'E_SESSION_CSRF_TOKEN_INVALID' };

  describe('a visitor who looks at a form', () => {
    beforeEach(() => start({}, { options: { maxAge: 100 } }));

    it('costs no store call and leaves no record, however many there are', async () => {
      for (let bot = 0; bot < 200; bot++) await served.http.get('/form').expect(200);
      expect(served.store.drain()).toEqual([]);
      expect(await served.sessions.count()).toBe(0);
    });

    it('gets a sealed cookie, which is not sent again while it is fresh', async () => {
      const first = await browser.get('/form');
      expect(setCookies(first)).toEqual([
        expect.stringMatching(/^session_id_visitor=1\.[^;]+; Path=\/; HttpOnly; SameSite=Lax; Max-Age=100$/),
      ]);
      expect(first.headers).toMatchObject({ 'cache-control': 'no-store', vary: 'Cookie' });
      expect(setCookies(await browser.get('/form'))).toEqual([]);
      served.clock.pass(51);
      expect(setCookies(await browser.get('/form'))).toHaveLength(1);
    });

    it('can post what the form was for, until the cookie’s time is over, which every use begins anew', async () => {
      const token = await tokenOf();
      expect((await post('/save', token)).status).toBe(200);
      served.clock.pass(99);
      expect((await post('/save', token)).status).toBe(200);
      served.clock.pass(99);
      expect((await post('/save', token)).status).toBe(200);
      served.clock.pass(100);
      expect((await post('/save', token)).body).toEqual(invalid);
    });

    it('keeps a form usable when another request begins the session', async () => {
      const [one, two] = [await tokenOf(), await tokenOf()];
      expect((await post('/set', one)).status).toBe(200);
      expect(await served.sessions.count()).toBe(1);
      expect((await post('/set', two)).status).toBe(200);
      expect((await post('/set', await tokenOf())).status).toBe(200);
    });

    it('cannot have a secret tossed into a session that began without it', async () => {
      await post('/set', await tokenOf());
      const attacker = served.browser();
      const token = await tokenOf(attacker);
      browser.cookies.set('session_id_visitor', attacker.cookies.get('session_id_visitor') as string);
      expect((await post('/save', token)).body).toEqual(invalid);
    });

    it('loses the cookie at the login', async () => {
      const response = await post('/login', await tokenOf());
      expect(setCookies(response)).toEqual([
        expect.stringMatching(/^session_id=/),
        'session_id_visitor=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0',
      ]);
      expect(browser.cookies.has('session_id_visitor')).toBe(false);
    });

    it('cannot use another’s cookie, a changed one, or one of another kind', async () => {
      const token = await tokenOf();
      const sealed = browser.cookies.get('session_id_visitor') as string;
      await post('/set', token);
      const signed = browser.cookies.get('session_id') as string;
      for (const value of [sealed.slice(0, -1), `${sealed}A`, signed, 'junk', '', '1.aaaaaaaa.bbbb']) {
        const client = served.browser();
        client.cookies.set('session_id_visitor', value);
        expect((await post('/save', token, {}, client)).status).toBe(403);
      }
      const client = served.browser();
      client.cookies.set('session_id', sealed);
      expect((await post('/save', token, {}, client)).status).toBe(403);
    });
  });

  describe('the readable cookie', () => {
    const xsrf = (response: { headers: Record<string, unknown> }): string[] =>
      setCookies(response).filter((line) => line.includes('XSRF-TOKEN='));

    it('hands the token to scripts, once, and again when it has gone stale', async () => {
      await start({ cookie: true });
      const first = await browser.get('/service');
      expect(xsrf(first)).toEqual([
        expect.stringMatching(/^XSRF-TOKEN=[A-Za-z0-9_-]{64}; Path=\/; SameSite=Lax; Max-Age=86400$/),
      ]);
      expect(served.store.drain()).toEqual([]);
      expect(xsrf(await browser.get('/service'))).toEqual([]);

      const send = (path: string) =>
        browser.post(path).set('X-XSRF-Token', browser.cookies.get('XSRF-TOKEN') as string);
      const login = await send('/login');
      expect(login.status).toBe(200);
      expect(xsrf(login)).toHaveLength(1);
      const save = await send('/save');
      expect(save.status).toBe(200);
      expect(xsrf(save)).toEqual([]);
      expect(xsrf(await send('/logout'))).toHaveLength(1);
      expect((await send('/login')).status).toBe(200);
    });

    it('is called __Host-XSRF-TOKEN when it is Secure', async () => {
      await start({ cookie: true }, { options: { cookie: { secure: true } } });
      expect(xsrf(await browser.get('/service'))).toEqual([
        expect.stringMatching(/^__Host-XSRF-TOKEN=[^;]+; Path=\/; SameSite=Lax; Max-Age=86400; Secure$/),
      ]);
    });

    it('may have a name of one’s own', async () => {
      await start({ cookie: 'csrf' }, { options: { cookie: { secure: true } } });
      expect(setCookies(await browser.get('/service'))).toContainEqual(expect.stringMatching(/^csrf=/));
    });

    it('is sent again whenever the cookie it goes with is: it lives as long', async () => {
      await start({ cookie: true }, { options: { maxAge: 100 } });
      await browser.get('/service');
      served.clock.pass(51);
      const renewed = await browser.get('/service');
      expect(setCookies(renewed).map((line) => line.split('=')[0])).toEqual([
        'XSRF-TOKEN',
        'session_id_visitor',
      ]);
      await browser.post('/login').set('X-XSRF-Token', browser.cookies.get('XSRF-TOKEN') as string);
      served.clock.pass(40);
      const extended = await browser.get('/service');
      expect(setCookies(extended).map((line) => line.split('=')[0])).toEqual(['session_id', 'XSRF-TOKEN']);
      expect(xsrf(extended)).toEqual([expect.stringMatching(/Max-Age=100$/)]);
      expect(setCookies(await browser.get('/service'))).toEqual([]);
    });

    it('is not put on a response that a shared cache may keep', async () => {
      await start({ cookie: true });
      expect(setCookies(await browser.get('/public'))).toEqual([]);
      expect(xsrf(await browser.get('/service'))).toHaveLength(1);
    });

    it.each([
      'max-age=60',
      'public',
      's-maxage=60',
      'immutable',
      'must-revalidate',
      'no-cache="Set-Cookie"',
      'private="X-User", max-age=60',
    ])('is not put on one that says %s, and neither is the visitor’s', async (said) => {
      await start({ cookie: true });
      const response = await browser.get(`/cached?as=${encodeURIComponent(said)}`);
      expect(setCookies(response)).toEqual([]);
      expect(response.headers['cache-control']).toBe(said);
    });

    it.each(['private, max-age=60', 'no-store', 'no-cache'])('is put on one that says %s', async (said) => {
      await start({ cookie: true });
      const response = await browser.get(`/cached?as=${encodeURIComponent(said)}`);
      expect(xsrf(response)).toHaveLength(1);
      expect(response.headers['cache-control']).toBe(said);
    });

    it('is not put on one that only the session’s cookie makes private', async () => {
      await start({ cookie: true });
      const response = await browser.get('/cached-and-set');
      expect(setCookies(response).map((line) => line.split('=')[0])).toEqual(['session_id']);
      expect(response.headers['cache-control']).toBe('private, max-age=60');
    });

    it('is not replaced by a late response whose session has ended meanwhile', async () => {
      await start({ cookie: true });
      const send = (client: Browser, path: string) =>
        client.post(path).set('X-XSRF-Token', browser.cookies.get('XSRF-TOKEN') as string);
      await browser.get('/service');
      await send(browser, '/set');
      const held = served.store.hold('commit');
      const slow = Promise.resolve(send(browser.copy(), '/set'));
      await held.reached;
      await send(browser, '/login');
      held.release();
      expect(setCookies(await slow)).toEqual([]);
    });

    it('is transport only: tossed in from elsewhere it opens nothing', async () => {
      await start({ cookie: true });
      const attacker = served.browser();
      await attacker.get('/service');
      const token = attacker.cookies.get('XSRF-TOKEN') as string;
      await browser.get('/service');
      browser.cookies.set('XSRF-TOKEN', token);
      expect((await browser.post('/save').set('X-XSRF-Token', token)).body).toEqual(invalid);
    });
  });
});
