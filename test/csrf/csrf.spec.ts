import { request as httpRequest } from 'node:http';
import type { SessionEvent, SessionModuleOptions } from 'nest-session';
import { type Browser, onBothAdapters, SECRET, type Served, setCookies } from '../support/app.js';
import {
  GuardedHeirController,
  HeirController,
  type CsrfApp,
  ExemptController,
  GlobalController,
  handlers,
  serveGuarded,
} from '../support/csrf-app.js';

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;
  let events: SessionEvent[];

  async function start(csrf: SessionModuleOptions['csrf'] = {}, more: CsrfApp = {}) {
    served = await serveGuarded(adapter, csrf, more);
    browser = served.browser();
    events = [];
    served.sessions.events.subscribe((event) => events.push(event));
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

  const missing = { statusCode: 403, message: 'Missing CSRF token', code: 'E_SESSION_CSRF_TOKEN_MISSING' };
  const invalid = { statusCode: 403, message: 'Invalid CSRF token', code: 'E_SESSION_CSRF_TOKEN_INVALID' };

  describe('a refusal', () => {
    beforeEach(() => start());

    it('is a 403 that says which check it was, runs no handler, makes no session and asks no store', async () => {
      const response = await post('/save');
      expect(response.status).toBe(403);
      expect(response.body).toEqual(missing);
      expect(response.headers.vary).toMatch(/Sec-Fetch-Site, Origin/);
      expect(setCookies(response)).toEqual([]);
      expect(handlers.runs).toBe(0);
      expect(served.store.drain()).toEqual([]);
      expect(events).toEqual([{ type: 'rejected', reason: 'csrf', check: 'token-missing' }]);
    });

    it('says "Invalid CSRF token" for one that is, and tells the event nothing of it', async () => {
      const response = await post('/save', 'x'.repeat(64));
      expect(response.body).toEqual(invalid);
      expect(events).toEqual([{ type: 'rejected', reason: 'csrf', check: 'token-invalid' }]);
      expect(served.log).toEqual([]);
    });

    it('by the headers comes whatever the token', async () => {
      const response = await post('/save', await tokenOf(), { 'Sec-Fetch-Site': 'cross-site' });
      expect(response.body).toEqual({
        statusCode: 403,
        message: 'Invalid CSRF token',
        code: 'E_SESSION_CSRF_FETCH_SITE',
      });
      expect(handlers.runs).toBe(0);
    });
  });

  describe('the token', () => {
    beforeEach(() => start());

    it('is taken from X-CSRF-Token, X-XSRF-Token and the body field, as JSON or as a form', async () => {
      const token = await tokenOf();
      expect((await post('/save', token)).status).toBe(200);
      expect((await browser.post('/save').set('X-XSRF-Token', token)).status).toBe(200);
      expect((await browser.post('/save', { _csrf: token })).status).toBe(200);
      expect((await browser.post('/save').type('form').send({ _csrf: token })).status).toBe(200);
      expect(handlers.runs).toBe(4);
    });

    it('is never taken from the query or from a cookie', async () => {
      const token = await tokenOf();
      expect((await post(`/save?_csrf=${token}`)).body).toEqual(missing);
      browser.cookies.set('_csrf', token).set('XSRF-TOKEN', token).set('csrf-token', token);
      expect((await post('/save')).body).toEqual(missing);
    });

    it('in the first place that holds anything decides', async () => {
      const token = await tokenOf();
      const wrong = await browser.post('/save', { _csrf: token }).set('X-CSRF-Token', 'wrong');
      expect(wrong.body).toEqual(invalid);
      const empty = await browser.post('/save', { _csrf: token }).set('X-CSRF-Token', '');
      expect(empty.status).toBe(200);
    });

    it('is fresh for each rendering, and each works', async () => {
      const [one, two] = [await tokenOf(), await tokenOf()];
      expect(one).not.toBe(two);
      expect((await post('/save', one)).status).toBe(200);
      expect((await post('/save', two)).status).toBe(200);
    });

    it('of another visitor, or another session, is refused', async () => {
      const stranger = served.browser();
      await tokenOf();
      expect((await post('/save', await tokenOf(stranger))).body).toEqual(invalid);
      await post('/login', await tokenOf());
      await post('/login', await tokenOf(stranger), {}, stranger);
      expect((await post('/save', await tokenOf(stranger))).body).toEqual(invalid);
      expect((await post('/save', await tokenOf())).status).toBe(200);
    });

    it('dies with the id: at login, at regeneration, at logout', async () => {
      const beforeLogin = await tokenOf();
      expect((await post('/login', beforeLogin)).status).toBe(200);
      expect((await post('/save', beforeLogin)).body).toEqual(invalid);
      const loggedIn = await tokenOf();
      await post('/regenerate', loggedIn);
      expect((await post('/save', loggedIn)).body).toEqual(invalid);
      const regenerated = await tokenOf();
      await post('/logout', regenerated);
      expect((await post('/save', regenerated)).body).toEqual(invalid);
    });

    it('costs the store nothing: none is kept there', async () => {
      await post('/login', await tokenOf());
      served.store.drain();
      const token = await tokenOf();
      await post('/save', token);
      expect(served.store.drain()).toEqual(['load', 'load']);
    });

    it.each<[string, object | string, string]>([
      ['a list of tokens', { _csrf: ['T', 'T'] }, 'application/json'],
      ['an object', { _csrf: { token: 'T' } }, 'application/json'],
      ['a number', { _csrf: 5 }, 'application/json'],
      ['true', { _csrf: true }, 'application/json'],
      ['null', { _csrf: null }, 'application/json'],
      ['a token under __proto__', '{"__proto__":{"_csrf":"T"}}', 'application/json'],
      ['a list as body', '["_csrf"]', 'application/json'],
      ['null as body', 'null', 'application/json'],
      ['a string as body', '"T"', 'application/json'],
      ['the token twice in a form', '_csrf=T&_csrf=T', 'application/x-www-form-urlencoded'],
      ['the token in brackets', '_csrf[]=T', 'application/x-www-form-urlencoded'],
      ['plain text', '{"_csrf":"T"}', 'text/plain'],
      ['a content type in capitals', '{"_csrf":"', 'Application/JSON'],
      [
        'multipart',
        '--x\r\nContent-Disposition: form-data; name="_csrf"\r\n\r\nT\r\n--x--',
        'multipart/form-data; boundary=x',
      ],
      ['a long one', { _csrf: 'x'.repeat(90_000) }, 'application/json'],
    ])('in an odd body is refused, never a 5xx: %s', async (_, body, type) => {
      const token = await tokenOf();
      const filled = JSON.parse(JSON.stringify(body).replace(/\bT\b/g, token)) as object | string;
      const response = await browser.post('/save').type(type).send(filled);
      expect(response.status).toBeGreaterThanOrEqual(400);
      expect(response.status).toBeLessThan(500);
      expect(handlers.runs).toBe(0);
    });

    it.each([
      'T, T',
      ' ',
      'x',
      'x'.repeat(63),
      'x'.repeat(65),
      'x'.repeat(15_000),
      'é'.repeat(64),
      'T=',
      'T.T',
    ])('in an odd header is refused, never a 5xx: %j', async (shape) => {
      const value = shape.replace(/\bT\b/g, await tokenOf());
      const status = await new Promise<number | undefined>((resolve, reject) => {
        const headers = { 'X-CSRF-Token': Buffer.from(value).toString('latin1'), Cookie: cookies() };
        const sent = httpRequest(`${served.url}/save`, { method: 'POST', headers }, (response) => {
          response.resume();
          resolve(response.statusCode);
        });
        sent.on('error', reject).end();
      });
      expect(status).toBe(403);
    });

    const cookies = (): string => [...browser.cookies].map(([name, value]) => `${name}=${value}`).join('; ');

    it('minted before the secrets were rotated is still good', async () => {
      await post('/login', await tokenOf());
      const token = await tokenOf();
      const { store } = served;
      const held = browser.cookies;
      await served.close();
      await start({}, { options: { secret: ['y'.repeat(32), SECRET], store: store.inner } });
      for (const [name, value] of held) browser.cookies.set(name, value);
      expect((await post('/save', token)).status).toBe(200);
    });
  });

  describe('methods', () => {
    beforeEach(() => start());

    it.each(['get', 'head', 'options'] as const)('%s passes', async (method) => {
      expect((await served.http[method]('/any')).status).toBeLessThan(300);
    });

    it.each(['post', 'put', 'patch', 'delete'] as const)('%s does not', async (method) => {
      expect((await served.http[method]('/any').ok(() => true)).status).toBe(403);
    });

    it('a POST that is to be taken for a GET does not pass, nor a GET that is to be taken for a POST', async () => {
      expect((await post('/any', undefined, { 'X-HTTP-Method-Override': 'GET' })).status).toBe(403);
      expect((await browser.get('/any').set('X-HTTP-Method-Override', 'POST')).status).toBe(403);
      expect((await browser.get('/any').set('X-HTTP-Method-Override', 'HEAD')).status).toBe(200);
    });

    it('@CsrfProtect() has a GET and a HEAD checked', async () => {
      expect((await browser.get('/unsubscribe')).status).toBe(403);
      expect((await served.http.head('/unsubscribe').ok(() => true)).status).toBe(403);
      const token = await tokenOf();
      expect((await browser.get('/unsubscribe').set('X-CSRF-Token', token)).status).toBe(200);
      expect(handlers.runs).toBe(1);
    });

    it('@CsrfProtect() on a route wins over @SkipCsrf() on its controller', async () => {
      await served.close();
      await start({}, { controllers: [ExemptController] });
      expect((await post('/exempt')).status).toBe(200);
      expect((await post('/exempt/not-this')).status).toBe(403);
    });

    it('@SkipCsrf() exempts a route', async () => {
      expect((await post('/hook')).status).toBe(200);
    });
  });

  describe('the headers, as browsers and others send them', () => {
    const own = (): string => served.url;

    it.each<[string, () => Record<string, string>, number]>([
      [
        'Sec-Fetch-Site: same-origin and Origin: null',
        () => ({ 'Sec-Fetch-Site': 'same-origin', Origin: 'null' }),
        200,
      ],
      ['our Origin', () => ({ Origin: own() }), 200],
      ['our Origin by another name', () => ({ Origin: own().replace('127.0.0.1', 'localhost') }), 403],
      ['our Origin on another port', () => ({ Origin: 'http://127.0.0.1:1' }), 403],
      ['our Origin over https', () => ({ Origin: own().replace('http', 'https') }), 403],
      ['a trusted Origin', () => ({ Origin: 'https://partner.example' }), 200],
      ['our Referer', () => ({ Referer: `${own()}/form` }), 200],
      ['another Referer', () => ({ Referer: 'https://evil.example/form' }), 403],
      [
        'a forged X-Forwarded-Host',
        () => ({ Origin: 'http://evil.example', 'X-Forwarded-Host': 'evil.example' }),
        403,
      ],
      ['a Host with a path', () => ({ Origin: 'http://evil.example', Host: 'evil.example/x?' }), 403],
    ])('%s', async (_, headers, status) => {
      await start({ trustedOrigins: ['https://partner.example'] });
      expect((await post('/save', await tokenOf(), headers())).status).toBe(status);
    });

    it('two Origin headers, or two Sec-Fetch-Site, are refused', async () => {
      await start();
      const token = await tokenOf();
      for (const [name, value] of [
        ['Origin', own()],
        ['Sec-Fetch-Site', 'same-origin'],
        ['Referer', `${own()}/`],
      ]) {
        const status = await new Promise<number | undefined>((resolve, reject) => {
          const cookie = [...browser.cookies].map((pair) => pair.join('=')).join('; ');
          const headers = { [name]: [value, value], 'X-CSRF-Token': token, Cookie: cookie };
          httpRequest(`${own()}/save`, { method: 'POST', headers }, (response) => {
            response.resume();
            resolve(response.statusCode);
          })
            .on('error', reject)
            .end();
        });
        expect(status).toBe(403);
      }
    });

    it('behind a trusted proxy are compared with what the browser saw', async () => {
      await start({}, { trustProxy: true });
      const forwarded = { 'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'app.example' };
      const client = served.browser();
      const { body } = await client.get('/form').set(forwarded);
      const good = { ...forwarded, Origin: 'https://app.example' };
      expect((await post('/save', body.token, good, client)).status).toBe(200);
      const bad = { ...forwarded, Origin: 'http://app.example' };
      expect((await post('/save', body.token, bad, client)).status).toBe(403);
    });
  });

  describe('the mode', () => {
    it('auto is content with proof that one of our own pages sent it, and asks for a token otherwise', async () => {
      await start({ mode: 'auto' });
      expect((await post('/save', undefined, { 'Sec-Fetch-Site': 'same-origin' })).status).toBe(200);
      expect((await post('/save', undefined, { Origin: served.url })).status).toBe(200);
      expect((await post('/save', undefined, { 'Sec-Fetch-Site': 'none' })).body).toEqual(missing);
      expect((await post('/save')).body).toEqual(missing);
      expect((await post('/save', await tokenOf())).status).toBe(200);
    });

    it('origin-only never asks for a token, and refuses what says nothing', async () => {
      await start({ mode: 'origin-only' });
      expect((await post('/save', undefined, { 'Sec-Fetch-Site': 'same-origin' })).status).toBe(200);
      expect((await post('/save', await tokenOf())).body).toMatchObject({ code: 'E_SESSION_CSRF_NO_PROOF' });
    });

    it.each([
      ['header', 'Sec-Fetch-Site', 403],
      ['same-origin', 'Sec-Fetch-Site', 200],
      ['same-origin', 'nothing', 403],
    ] as const)(
      'with multipart: %s and %s to go by, a body nobody has parsed yet is a %i',
      async (multipart, by, status) => {
        await start({ multipart });
        const sent = browser.post('/save').type('multipart/form-data; boundary=x');
        if (by === 'Sec-Fetch-Site') sent.set('Sec-Fetch-Site', 'same-origin');
        const response = await sent.send('--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--');
        expect(response.status).toBe(status);
      },
    );

    it('with multipart: header a token in a header serves a multipart body', async () => {
      await start();
      const token = await tokenOf();
      const sent = browser.post('/save').type('multipart/form-data; boundary=x').set('X-CSRF-Token', token);
      expect((await sent.send('--x--')).status).toBe(200);
    });
  });

  describe('the guard', () => {
    it('stands before or behind AuthenticatedGuard', async () => {
      await start();
      expect((await post('/private')).status).toBe(403);
      expect((await post('/private-too')).status).toBe(401);
      expect((await post('/private', await tokenOf())).status).toBe(401);
      await post('/login', await tokenOf());
      for (const path of ['/private', '/private-too']) {
        expect((await post(path)).status).toBe(403);
        expect((await post(path, await tokenOf())).status).toBe(200);
      }
    });

    it('bound globally guards every route but those that a decorator exempts, by whatever path', async () => {
      await start({}, { controllers: [ExemptController, GlobalController], global: true });
      expect((await post('/hook')).status).toBe(200);
      expect((await post('/exempt')).status).toBe(200);
      for (const path of ['/hook/deeper', '//hook', '/x/../y', '/HOOK/x', '/hook;x', '/anything']) {
        expect([403, 404]).toContain((await post(path)).status);
      }
    });

    it('lets a subclass inherit @SkipCsrf(), and take it back with @CsrfProtect()', async () => {
      await start({}, { controllers: [HeirController, GuardedHeirController] });
      expect((await post('/heir')).status).toBe(200);
      expect((await post('/heir/not-this')).status).toBe(403);
      expect((await post('/guarded-heir')).status).toBe(403);
    });

    it('does nothing, not even load the session, for a request that changes nothing', async () => {
      await start();
      const response = await browser.get('/any');
      expect(response.status).toBe(200);
      expect(response.headers).not.toHaveProperty('vary');
    });
  });
});
