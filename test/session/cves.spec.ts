import { Controller, Get, Header, HttpCode, Module, Post, Query, UseGuards } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { createHash, createHmac } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import {
  AuthenticatedGuard,
  CsrfGuard,
  CsrfToken,
  Session,
  SessionModule,
  type SessionModuleOptions,
  SkipCsrf,
} from 'nest-session';
import { Browser, createApp, onBothAdapters, type Served, serve, setCookies } from '../support/app.js';

/** How often a handler ran that only our own pages may reach. */
let runs = 0;

@Controller()
class TargetController {
  @Get('form')
  form(@CsrfToken() token: string) {
    return { token };
  }

  @Get('look')
  look(@Session() session: Session<any>) {
    return { user: session.userId ?? null, value: session.get('value') ?? null };
  }

  @Get('set')
  set(@Session() session: Session<any>, @Query('value') value: string) {
    session.set('value', value);
    return { id: session.id };
  }

  @Get('touch')
  touch(@Session() session: Session) {
    session.touch();
  }

  @Get('flash')
  flash(@Session() session: Session) {
    session.flash.set('note', 'late');
  }

  @Get('login')
  async login(@Session() session: Session) {
    await session.login('alice');
  }

  @Get('login-by-key')
  loginByKey(@Session() session: Session) {
    session.set('userId', 'alice');
  }

  @Get('logout')
  async logout(@Session() session: Session) {
    await session.logout();
  }

  @Get('regenerate')
  async regenerate(@Session() session: Session) {
    await session.regenerate();
  }

  @Get('private')
  @UseGuards(AuthenticatedGuard)
  private() {
    return {};
  }

  @Get('elsewhere')
  elsewhere() {
    return 'a page that never looks at the session';
  }

  @Get('shared')
  @Header('Cache-Control', 'private, max-age=60')
  shared(@Session() session: Session) {
    return { user: session.userId ?? null };
  }

  @Post('save')
  @HttpCode(200)
  @UseGuards(CsrfGuard)
  save() {
    runs++;
    return {};
  }
}

@Controller()
class HookController {
  @Post('hook')
  @HttpCode(200)
  @SkipCsrf()
  hook() {
    return {};
  }

  @Post('*')
  @HttpCode(200)
  rest() {
    runs++;
    return {};
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;
  let attacker: Browser;

  async function start(options: Partial<SessionModuleOptions> = {}, trustProxy = false): Promise<void> {
    served = await serve(adapter, { controllers: [TargetController], options, trustProxy });
    browser = served.browser();
    attacker = served.browser();
    runs = 0;
  }
  afterEach(() => served.close());

  const anonymous = { user: null, value: null };
  const seenBy = async (client: Browser): Promise<unknown> => (await client.get('/look')).body;
  const tokenOf = async (client: Browser): Promise<string> => (await client.get('/form')).body.token;
  const save = (client: Browser, token: string, headers: Record<string, string> = {}) =>
    client.post('/save', {}).set('X-CSRF-Token', token).set(headers);

  /** Sends bytes that fetch and supertest would refuse or repair. */
  function raw(
    path: string,
    method: string,
    headers: Record<string, string>,
  ): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const sent = httpRequest(served.url + path, { method, headers }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      });
      sent.on('error', reject).end();
    });
  }

  describe('fixation', () => {
    beforeEach(() => start());

    it.each(['/login', '/login-by-key'])(
      'CVE-2022-25896, CVE-2023-29019, CVE-2022-24895, CVE-2021-41246, CVE-2024-7341, CVE-2023-46733: the id outlives the login (%s)',
      async (login) => {
        await attacker.get('/set?value=bait');
        const victim = attacker.copy(); // the attacker's cookie, tossed into the victim's browser
        await victim.get(login);
        expect(await seenBy(victim)).toMatchObject({ user: 'alice' });
        expect(victim.cookie).not.toBe(attacker.cookie);
        expect(await seenBy(attacker)).toEqual(anonymous);
      },
    );

    it('CVE-2022-25896, CVE-2024-31999, CVE-2026-44511: the cookie from before the logout still works', async () => {
      await browser.get('/login');
      const captured = browser.copy();
      await browser.get('/logout');
      expect(await seenBy(captured)).toEqual(anonymous);
      expect((await captured.get('/private')).status).toBe(401);
    });

    it('CVE-2024-38513: an id of the client’s choice is adopted', async () => {
      const { body } = await attacker.get('/set?value=gone');
      await served.sessions.revoke(body.id); // well signed, and unknown to the store
      const secret = 'A'.repeat(43);
      for (const cookie of [
        attacker.cookie as string,
        `session_id=${secret}`,
        `session_id=${secret}.${secret}`,
      ]) {
        const chosen = createHash('sha256')
          .update(cookie.slice('session_id='.length).split('.')[0])
          .digest('hex');
        const response = await served.http.get('/set?value=new').set('Cookie', cookie);
        expect(response.body.id).not.toBe(chosen);
        expect(setCookies(response)[0]).not.toContain(cookie.split('.')[0]);
        expect(await served.sessions.find(chosen)).toBeUndefined();
      }
    });
  });

  describe('what is gone stays gone', () => {
    beforeEach(() => start());

    describe.each(['/logout', '/login', '/regenerate'])('CVE-2025-46336: after %s', (end) => {
      it.each([
        ['write', '/set?value=late', 'commit'],
        ['flash message', '/flash', 'commit'],
        ['touch', '/touch', 'touch'],
      ] as const)('a slow %s brings the session back', async (_, path, operation) => {
        await browser.get('/set?value=1');
        served.clock.pass(60);
        const slow = browser.copy();
        const before = browser.copy();
        const barrier = served.store.hold(operation);
        const late = slow.begin(path);
        await barrier.reached;
        await browser.get(end);
        const sessions = await served.sessions.count();
        barrier.release();
        expect(setCookies(await late)).toEqual([]);
        expect(await seenBy(before)).toEqual(anonymous);
        expect(await served.sessions.count()).toBe(sessions);
      });
    });

    it('CVE-2024-35220: a session that was read back never expires', async () => {
      await served.close();
      await start({ maxAge: 100, absoluteMaxAge: 150 });
      await browser.get('/set?value=1');
      const idle = browser.copy();
      served.clock.pass(99);
      expect(await seenBy(browser)).toMatchObject({ value: '1' });
      served.clock.pass(51);
      expect(await seenBy(browser)).toEqual(anonymous);
      expect(await seenBy(idle)).toEqual(anonymous);
      expect(await served.sessions.count()).toBe(0);
    });
  });

  describe('the store', () => {
    beforeEach(() => start());

    it('CVE-2019-16782: what the store looks up is what the cookie holds', async () => {
      const { id } = (await browser.get('/set?value=1')).body;
      const secret = (browser.cookie as string).slice('session_id='.length).split('.')[0];
      expect(id).toBe(createHash('sha256').update(secret).digest('hex'));
      expect(await served.sessions.find(id)).toBeDefined();
      expect(await served.sessions.find(secret)).toBeUndefined();
      attacker.cookies.set('session_id', id);
      expect(await seenBy(attacker)).toEqual(anonymous);
    });

    it('CVE-2015-5963, CVE-2015-5964: requests of nobody fill it', async () => {
      for (const path of ['/look', '/form', '/private', '/touch', '/logout', '/regenerate', '/nowhere']) {
        for (let bot = 0; bot < 10; bot++) await served.browser().get(path);
      }
      expect(served.store.drain()).toEqual([]);
      expect(await served.sessions.count()).toBe(0);
    });
  });

  describe('caches', () => {
    it('CVE-2023-30861: a refreshed cookie is stored for the next visitor', async () => {
      await start({ maxAge: 100 });
      await browser.get('/login');
      served.clock.pass(50);
      const refreshed = await browser.get('/elsewhere');
      expect(setCookies(refreshed)).toHaveLength(1);
      expect(refreshed.headers['cache-control']).toBe('no-store');
      expect(refreshed.headers.vary).toMatch(/\bCookie\b/);
      const read = await browser.get('/shared');
      expect(read.headers.vary).toMatch(/\bCookie\b/);
    });
  });

  describe('CSRF', () => {
    it('CVE-2023-29020: the secret survives the login', async () => {
      await start();
      const beforeSession = await tokenOf(browser);
      const visitor = browser.copy();
      await browser.get('/set?value=1');
      const beforeLogin = await tokenOf(browser);
      for (const token of [beforeSession, beforeLogin]) expect((await save(browser, token)).status).toBe(200);
      await browser.get('/login');
      for (const [name, value] of visitor.cookies) browser.cookies.set(name, value); // tossed back in
      for (const token of [beforeSession, beforeLogin]) expect((await save(browser, token)).status).toBe(403);
      expect((await save(browser, await tokenOf(browser))).status).toBe(200);
    });

    it('CVE-2021-29624, CVE-2023-27495, csurf: the attacker’s token goes with the attacker’s cookies', async () => {
      await start({ csrf: { cookie: true } });
      await browser.get('/login');
      const token = await tokenOf(attacker);
      const readable = attacker.cookies.get('XSRF-TOKEN') as string;
      for (const tossed of [['session_id_visitor', 'XSRF-TOKEN'], ['session_id_visitor'], ['XSRF-TOKEN']]) {
        const victim = browser.copy();
        for (const name of tossed) victim.cookies.set(name, attacker.cookies.get(name) as string);
        victim.cookies.set('_csrf', token);
        for (const one of [token, readable]) expect((await save(victim, one)).status).toBe(403);
      }
      expect(runs).toBe(0);
      expect((await save(attacker, token)).status).toBe(200);
    });

    it('CVE-2023-45128, CVE-2023-45141: a value becomes a token by being in a cookie', async () => {
      await start({ csrf: { cookie: true } });
      const value = 'x'.repeat(64);
      for (const client of [browser, attacker]) {
        for (const name of ['XSRF-TOKEN', '_csrf', 'csrf_', 'session_id_visitor'])
          client.cookies.set(name, value);
      }
      await attacker.get('/login');
      for (const client of [browser, attacker]) {
        client.cookies.set('XSRF-TOKEN', value);
        expect((await save(client, value)).status).toBe(403);
        expect((await client.get('/look')).status).toBe(200);
        expect((await save(client, value)).status).toBe(403);
      }
    });

    it.each([
      ['a sibling’s Origin', { Origin: 'https://evil.app.example' }, 403],
      ['a sibling’s Referer', { Referer: 'https://evil.app.example/form' }, 403],
      ['our Origin without TLS', { Origin: 'http://app.example' }, 403],
      ['our Referer without TLS', { Referer: 'http://app.example/form' }, 403],
      ['a sibling’s Sec-Fetch-Site', { 'Sec-Fetch-Site': 'same-site' }, 403],
      ['our Origin', { Origin: 'https://app.example' }, 200],
    ])(
      'CVE-2025-24358, CVE-2025-46721: over TLS the headers are not compared: %s',
      async (_, headers, status) => {
        await start({}, true);
        const tls = { 'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'app.example' };
        const { token } = (await browser.get('/form').set(tls)).body;
        expect((await save(browser, token, { ...tls, ...headers })).status).toBe(status);
      },
    );

    it.each([
      ['https://partner.example', 200],
      ['http://partner.example', 403],
      ['https://partner.example:8443', 403],
      ['https://partner.example.evil.example', 403],
      ['https://x.partner.example', 403],
      ['https://partner.example@evil.example', 403],
      ['https://PARTNER.example', 403],
      ['https://partner.example/', 403],
    ])('CVE-2025-47909: a trusted origin is matched by its host alone: %s', async (origin, status) => {
      await start({ csrf: { trustedOrigins: ['https://partner.example'] } });
      const token = await tokenOf(browser);
      expect((await save(browser, token, { Origin: origin })).status).toBe(status);
      const fetched = { Origin: origin, 'Sec-Fetch-Site': 'cross-site' };
      expect((await save(browser, token, fetched)).status).toBe(status);
    });

    it.each([
      '/hook/',
      '//hook',
      '/./hook',
      '/x/../hook',
      '/HOOK',
      '/hook;x',
      '/hook%2f',
      '/hook%00',
      '/hook/deeper',
    ])('CVE-2025-47910, CVE-2026-33808: a path that resembles an exempt one is exempt: %s', async (path) => {
      served = await serve(adapter, {
        controllers: [HookController],
        providers: [{ provide: APP_GUARD, useExisting: CsrfGuard }],
      });
      runs = 0;
      expect((await raw('/hook', 'POST', {})).status).toBe(200);
      await raw(path, 'POST', {});
      expect(runs).toBe(0);
    });

    it('CVE-2026-27978: Origin: null counts as no Origin', async () => {
      await start();
      const token = await tokenOf(browser);
      expect((await save(browser, token)).status).toBe(200);
      expect((await save(browser, token, { Origin: 'null' })).status).toBe(403);
      const fetched = (site: string) => ({ Origin: 'null', 'Sec-Fetch-Site': site });
      expect((await save(browser, token, fetched('cross-site'))).status).toBe(403);
      expect((await save(browser, token, fetched('same-origin'))).status).toBe(200);
    });

    it.each([
      'text/plain',
      'Text/Plain; charset=utf-8',
      'application/x-www-form-urlencoded',
      'Application/X-WWW-Form-Urlencoded',
      'application/json',
      'application/json;text/plain',
      'application/json\tx',
      'text/plain; application/json',
      'multipart/form-data; boundary=x',
      'multipart/form-data',
      'application/octet-stream',
      'nonsense',
      undefined,
    ])(
      'CVE-2024-43787, CVE-2024-48913, CVE-2022-41919, CVE-2024-56140, CVE-2023-29003, CVE-2023-29008: the content type turns the check off: %s',
      async (type) => {
        await start();
        await browser.get('/login');
        const headers = { Cookie: browser.cookie as string, ...(type && { 'Content-Type': type }) };
        const { status } = await raw('/save', 'POST', headers);
        expect(status).toBeGreaterThanOrEqual(400);
        expect(status).toBeLessThan(500);
        expect(runs).toBe(0);
      },
    );

    it.each(['evil.example/x?', 'evil.example#', 'x@evil.example', 'evil.example\\x', ' '])(
      'CVE-2026-48710: a Host that is more than a host makes an origin ours: %j',
      async (host) => {
        await start();
        const cookie = (await served.http.get('/form')).headers['set-cookie'][0].split(';')[0];
        const { token } = (await served.http.get('/form').set('Cookie', cookie)).body;
        const headers = { Host: host, Origin: 'http://evil.example', Cookie: cookie, 'X-CSRF-Token': token };
        expect([400, 403]).toContain((await raw('/save', 'POST', headers)).status);
        expect(runs).toBe(0);
      },
    );

    it('CVE-2023-45857, CVE-2025-66035: a token that leaked is good for other sessions, or for good', async () => {
      await start();
      await browser.get('/login');
      await attacker.get('/login');
      const leaked = await tokenOf(browser);
      expect((await save(browser, leaked)).status).toBe(200);
      expect((await save(attacker, leaked)).status).toBe(403);
      await browser.get('/regenerate');
      expect((await save(browser, leaked)).status).toBe(403);
    });
  });

  describe('cookies', () => {
    /** As the browser sends it over TLS; `V` stands for the value of a live session's cookie, in UTF-8 bytes. */
    async function overTls(shape: string): Promise<unknown> {
      await start({}, true);
      const tls = { 'X-Forwarded-Proto': 'https' };
      await browser.get('/set?value=1').set(tls);
      const value = browser.cookies.get('__Host-session_id') as string;
      const Cookie = Buffer.from(shape.replace(/\bV\b/g, value)).toString('latin1');
      const { status, text } = await raw('/look', 'GET', { ...tls, Cookie });
      expect(status).toBe(200);
      return JSON.parse(text);
    }

    it('(the name is exact, and then the session is found)', async () => {
      expect(await overTls('__Host-session_id=V')).toMatchObject({ value: '1' });
    });

    it.each([
      ['CVE-2023-23934', '=__Host-session_id=V'],
      ['CVE-2023-23934', '==__Host-session_id=V'],
      ['CVE-2020-8184, CVE-2021-41819, CVE-2020-7070', '__%48ost-session_id=V'],
      ['CVE-2020-8184, CVE-2021-41819, CVE-2020-7070', '%5f%5fHost-session_id=V'],
      ['CVE-2020-8184, CVE-2021-41819, CVE-2020-7070', '__Host%2dsession_id=V'],
      ['CVE-2022-31629', '..Host-session_id=V'],
      ['CVE-2022-31629', '__Host-session.id=V'],
      ['CVE-2022-31629', '__Host-session id=V'],
      ['CVE-2022-31629', '__Host-session[id=V'],
      ['Cookie Chaos', '\u00a0__Host-session_id=V'],
      ['Cookie Chaos', '\u2000__Host-session_id=V'],
      ['Cookie Chaos', '\u0085__Host-session_id=V'],
      ['Cookie Chaos', '\ufeff__Host-session_id=V'],
      ['Cookie Chaos', '$Version=1,__Host-session_id=V'],
      ['Cookie Chaos', '$Version=1; x="a; __Host-session_id=V"'],
      ['Cookie Chaos', '__Host-session_id="V"'],
      ['Cookie Crumbles', '__Host-session_id=junk; __Host-session_id=V'],
      ['Cookie Crumbles', '__host-session_id=V'],
      ['Cookie Crumbles', 'session_id=V'],
    ])('%s: a name without the prefix’s protection passes for ours: %j', async (_, shape) => {
      expect(await overTls(shape)).toEqual(anonymous);
    });

    it.each<[string, SessionModuleOptions['cookie']]>([
      ['a name', { name: 'sid=x; Domain=evil.example; y' }],
      ['a name', { name: 'sid\r\nSet-Cookie: x' }],
      ['a path', { path: '/; Domain=evil.example' }],
      ['a path', { path: '/\r\nSet-Cookie: x=y' }],
      ['a domain', { domain: 'app.example; Path=/x' }],
    ])('CVE-2024-47764: %s adds attributes and headers: %j', async (_, cookie) => {
      await start();
      await expect(serve(adapter, { controllers: [], options: { cookie } })).rejects.toMatchObject({
        code: 'E_SESSION_CONFIGURATION',
      });
    });

    it.each([
      ['pairs', 'a=b; '.repeat(3000)],
      ['quotes and backslashes', `x="${'\\'.repeat(15_000)}`],
      ['escapes', `x="${'\\101'.repeat(3700)}"`],
      ['semicolons', ';'.repeat(15_000)],
      ['equals signs', '='.repeat(15_000)],
      ['blanks', `x=${' '.repeat(15_000)}y`],
      ['near misses', 'session_id '.repeat(1300)],
      ['duplicates', 'session_id=; '.repeat(1100)],
      ['one long value', `session_id=${'A'.repeat(15_000)}`],
      ['one long sealed value', `session_id_visitor=1.AAAAAAAA.${'A'.repeat(15_000)}`],
    ])('CVE-2024-52804: a header of 15 kB is more than the parser bears: %s', async (_, header) => {
      await start();
      for (const path of ['/look', '/form']) {
        expect((await raw(path, 'GET', { Cookie: header })).status).toBe(200);
      }
      expect(JSON.parse((await raw('/look', 'GET', { Cookie: header })).text)).toEqual(anonymous);
      expect(served.store.drain()).toEqual([]);
    });
  });

  describe('sealed and signed values', () => {
    /** A token as the server makes it, under a secret that the attacker chose. */
    function forgedToken(secret: Buffer): string {
      const salt = Buffer.alloc(16, 1);
      const signature = createHmac('sha256', secret).update('csrf/v1\0').update(salt).update('\0*').digest();
      return Buffer.concat([salt, signature]).toString('base64url');
    }

    it('CVE-2026-39324: what cannot be decrypted is taken as plain text', async () => {
      await start();
      const secret = Buffer.alloc(32, 7);
      const plain = `${secret.toString('base64url')} ${served.clock.now + 1000}`;
      const encoded = Buffer.from(plain).toString('base64url');
      const sealed = (await browser.get('/form')) && (browser.cookies.get('session_id_visitor') as string);
      const keyId = sealed.split('.')[1];
      const session = JSON.stringify({ userId: 'alice' });
      for (const value of [
        ...[plain, encoded, Buffer.from(plain).toString('base64'), encodeURIComponent(plain)],
        ...[
          `1.${keyId}.${encoded}`,
          `0.${keyId}.${encoded}`,
          `1..${encoded}`,
          `1.${keyId}.`,
          `1.${keyId}.${'A'.repeat(54)}`,
        ],
        ...[`j:${session}`, session, Buffer.from(session).toString('base64'), `s:${encoded}`],
        ...[`eyJhbGciOiJub25lIn0.${Buffer.from(session).toString('base64url')}.`, `${encoded}.`],
      ]) {
        for (const name of ['session_id_visitor', 'session_id']) {
          const forged = served.browser();
          forged.cookies.set(name, value);
          expect((await save(forged, forgedToken(secret))).status).toBe(403);
          expect(await seenBy(forged)).toEqual(anonymous);
        }
      }
      expect(runs).toBe(0);
    });

    it('CVE-2023-48309: a token of one kind is accepted as one of another', async () => {
      await start({ csrf: { cookie: true } });
      await browser.get('/form');
      const visitor = browser.cookies.get('session_id_visitor') as string;
      const token = await tokenOf(browser);
      const { id } = (await browser.get('/set?value=1')).body;
      const kinds: Record<string, string> = {
        session: browser.cookies.get('session_id') as string,
        visitor,
        readable: browser.cookies.get('XSRF-TOKEN') as string,
        visitorToken: token,
        token: await tokenOf(browser),
        id,
      };
      const own: Record<string, string[]> = { session_id: ['session'], session_id_visitor: ['visitor'] };
      for (const [kind, value] of Object.entries(kinds)) {
        for (const name of ['session_id', 'session_id_visitor', 'XSRF-TOKEN']) {
          if (own[name]?.includes(kind)) continue;
          const client = served.browser();
          client.cookies.set(name, value);
          expect(await seenBy(client)).toEqual(anonymous);
          expect((await save(client, value)).status).toBe(403);
          expect((await save(client, kinds.token)).status).toBe(403);
        }
      }
      for (const kind of ['session', 'visitor', 'id'])
        expect((await save(browser, kinds[kind])).status).toBe(403);
      expect(runs).toBe(0);
    });

    it('CVE-2019-5420, CVE-2016-4437: without a secret there is a default that others know', async () => {
      await start();
      @Module({ imports: [SessionModule.forRoot()], controllers: [TargetController] })
      class FromEnvironment {}
      const { SESSION_SECRET, NODE_ENV } = process.env;
      delete process.env.SESSION_SECRET;
      try {
        const apps = [await createApp(adapter, FromEnvironment), await createApp(adapter, FromEnvironment)];
        for (const app of apps) await app.listen(0, '127.0.0.1');
        const [here, there] = await Promise.all(apps.map(async (app) => new Browser(await app.getUrl())));
        const token = await tokenOf(here);
        await here.get('/set?value=1');
        for (const [name, value] of here.cookies) there.cookies.set(name, value);
        expect(await seenBy(here)).toMatchObject({ value: '1' });
        expect((await save(here, token)).status).toBe(200);
        expect(await seenBy(there)).toEqual(anonymous);
        expect((await save(there, token)).status).toBe(403);
        for (const app of apps) await app.close();
        process.env.NODE_ENV = 'production';
        await expect(createApp(adapter, FromEnvironment)).rejects.toMatchObject({ option: 'SESSION_SECRET' });
      } finally {
        process.env.NODE_ENV = NODE_ENV;
        if (SESSION_SECRET !== undefined) process.env.SESSION_SECRET = SESSION_SECRET;
      }
    });
  });
});
