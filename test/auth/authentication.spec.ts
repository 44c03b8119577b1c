import { Controller, Get, HttpCode, Module, Post, UseGuards } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { request as httpRequest } from 'node:http';
import {
  AuthenticatedGuard,
  CookieStore,
  Flash,
  isLocalPath,
  MemoryStore,
  Public,
  RequireLogin,
  Session,
  SessionModule,
} from 'nest-session';
import { type Browser, onBothAdapters, SECRET, type Served, serve, sessionCookies } from '../support/app.js';

@Controller()
class PrivateController {
  @Get('private')
  @UseGuards(AuthenticatedGuard)
  show(@Session() session: Session) {
    return { userId: session.userId };
  }

  @Post('private')
  @UseGuards(AuthenticatedGuard)
  change() {
    return {};
  }

  @Post('login')
  @HttpCode(200)
  async login(@Session() session: Session) {
    const returnTo = session.pull('returnTo') ?? null;
    await session.login('alice');
    return { returnTo };
  }

  @Get('login')
  form(@Flash('error') error?: string) {
    return { error: error ?? null };
  }

  @Get('*')
  @UseGuards(AuthenticatedGuard)
  anything() {
    return {};
  }
}

@Controller()
class MixedController {
  @Get('private')
  show() {
    return {};
  }

  @Get('open')
  @Public()
  open() {
    return {};
  }
}

@Controller('all-open')
@Public()
class OpenController {
  @Get()
  open() {
    return {};
  }
}

/** Not a controller itself. */
@Public()
class OpenBase {
  @Get('inherited')
  inherited() {
    return {};
  }

  @Get('taken-back')
  @RequireLogin()
  takenBack() {
    return {};
  }
}

@Controller('heir')
class HeirController extends OpenBase {}

@Controller('guarded')
@RequireLogin()
class GuardedHeirController extends OpenBase {
  @Get('open')
  @Public()
  open() {
    return {};
  }
}

const HTML = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8';

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;
  afterEach(() => served.close());

  describe('AuthenticatedGuard without a login path', () => {
    beforeEach(async () => {
      served = await serve(adapter, { controllers: [PrivateController] });
      browser = served.browser();
    });

    it('answers 401 to a visitor, who gets no session for it', async () => {
      const response = await browser.get('/private').set('Accept', HTML);
      expect(response.status).toBe(401);
      expect(response.body).toEqual({ statusCode: 401, message: 'Please login to continue' });
      expect(sessionCookies(response)).toEqual([]);
      expect(served.store.drain()).toEqual([]);
    });

    it('lets in who is logged in, until the logout', async () => {
      await browser.post('/login');
      expect((await browser.get('/private')).body).toEqual({ userId: 'alice' });
      await served.sessions.clear();
      expect((await browser.get('/private')).status).toBe(401);
    });

    it('fails closed: a store that is down is 503', async () => {
      await browser.post('/login');
      served.store.fail('load');
      expect((await browser.get('/private')).status).toBe(503);
    });
  });

  describe('AuthenticatedGuard with a login path', () => {
    beforeEach(async () => {
      served = await serve(adapter, {
        controllers: [PrivateController],
        options: { maxAge: 100, auth: { loginPath: '/login' } },
      });
      browser = served.browser();
    });

    const login = async (): Promise<unknown> => (await browser.post('/login')).body.returnTo;

    it('redirects a browser there, with a message, and back to the page it asked for', async () => {
      const response = await browser.get('/private?tab=2&x=%2F').set('Accept', HTML);
      expect(response.status).toBe(302);
      expect(response.headers.location).toBe('/login');
      expect((await browser.get('/login')).body).toEqual({ error: 'Please login to continue' });
      expect((await browser.get('/login')).body).toEqual({ error: null });
      expect(await login()).toBe('/private?tab=2&x=%2F');
      expect(await login()).toBeNull();
    });

    it('redirects with 303 after a POST, and does not come back to it', async () => {
      const response = await browser.post('/private').set('Accept', HTML);
      expect(response.status).toBe(303);
      expect(response.headers.location).toBe('/login');
      expect(await login()).toBeNull();
    });

    it.each([
      ['application/json', 401],
      ['application/json, text/plain, */*', 401],
      ['application/vnd.api+json', 401],
      ['application/problem+json;q=0.9', 401],
      [HTML, 302],
      ['text/html, application/json', 302],
      ['*/*', 302],
    ])('answers Accept: %s with %i', async (accept, status) => {
      const response = await browser.get('/private').set('Accept', accept);
      expect(response.status).toBe(status);
      expect(served.store.drain()).toEqual(status === 401 ? [] : ['create']);
    });

    it('says "Session expired" when the cookie named a session that has', async () => {
      await browser.post('/login');
      served.clock.pass(100);
      expect((await browser.get('/private').set('Accept', HTML)).status).toBe(302);
      expect((await browser.get('/login')).body).toEqual({ error: 'Session expired' });
    });

    it('keeps the page first asked for across the login of a stored session', async () => {
      await browser.get('/private').set('Accept', HTML);
      await browser.get('/login');
      expect(await login()).toBe('/private');
      expect((await browser.get('/private').set('Accept', HTML)).status).toBe(200);
    });

    it.each([
      '//evil.example',
      '/\\evil.example',
      '/\\/evil.example',
      'http://evil.example/',
      '/..//evil.example',
    ])('never comes back to another site: GET %s', async (target) => {
      // Sent raw, because clients normalise such targets before they send them.
      const cookie = await new Promise<string | undefined>((resolve, reject) => {
        const sent = httpRequest(
          { host: '127.0.0.1', port: new URL(served.url).port, path: target, headers: { Accept: HTML } },
          (response) => {
            response.resume();
            resolve(response.headers['set-cookie']?.[0].split(';')[0]);
          },
        );
        sent.on('error', reject).end();
      });
      if (cookie) browser.cookies.set(...(cookie.split('=') as [string, string]));
      const returnTo = (await login()) ?? '/';
      expect(new URL(String(returnTo), served.url).origin).toBe(served.url);
    });
  });

  describe.each([
    ['a CookieStore', () => new CookieStore()],
    ['a MemoryStore', () => new MemoryStore()],
  ])('AuthenticatedGuard with a login path and %s', (_, store) => {
    beforeEach(async () => {
      @Module({
        imports: [SessionModule.forRoot({ secret: SECRET, store: store(), auth: { loginPath: '/login' } })],
        controllers: [PrivateController],
      })
      class Root {}
      served = await serve(adapter, { controllers: [], root: Root });
      browser = served.browser();
    });

    /** Sent raw, because clients encode what need not be. Cookies are kept; the status and where it leads. */
    const ask = (path: string): Promise<[number | undefined, string | undefined]> =>
      new Promise((resolve, reject) => {
        const { port } = new URL(served.url);
        const Cookie = [...browser.cookies].map((pair) => pair.join('=')).join('; ');
        const sent = httpRequest(
          { host: '127.0.0.1', port, path, headers: { Accept: HTML, Cookie } },
          (response) => {
            response.resume();
            const [line] = sessionCookies(response);
            const [, name, value] = /^([^=]+)=([^;]*)/.exec(line ?? '') ?? [];
            if (name !== undefined) browser.cookies.set(name, value);
            resolve([response.statusCode, response.headers.location]);
          },
        );
        sent.on('error', reject).end();
      });
    const login = async (): Promise<unknown> => (await browser.post('/login').expect(200)).body.returnTo;
    const page = (length: number, character = 'a'): string => '/private?q='.padEnd(length, character);

    it.each([1025, 4000, 7000])('does not remember a page of %i characters', async (length) => {
      expect(await ask(page(length))).toEqual([302, '/login']);
      expect((await browser.get('/login')).body).toEqual({ error: 'Please login to continue' });
      expect(await login()).toBeNull();
    });

    it('nor, because of it, the page that was asked for before', async () => {
      await ask('/private?before');
      expect(await ask(page(7000))).toEqual([302, '/login']);
      expect(await login()).toBeNull();
    });

    it.each(['a', '"'])('remembers one of 1024 characters, whatever they take: %s', async (character) => {
      const asked = page(1024, character);
      expect(await ask(asked)).toEqual([302, '/login']);
      expect(await login()).toBe(asked);
    });
  });

  describe('AuthenticatedGuard bound globally', () => {
    it('guards every route but the @Public() ones', async () => {
      served = await serve(adapter, {
        controllers: [MixedController, OpenController],
        providers: [{ provide: APP_GUARD, useExisting: AuthenticatedGuard }],
      });
      expect((await served.http.get('/private')).status).toBe(401);
      expect((await served.http.get('/open')).status).toBe(200);
      expect((await served.http.get('/all-open')).status).toBe(200);
    });

    it('lets a subclass inherit @Public(), and a subclass or a route take it back', async () => {
      served = await serve(adapter, {
        controllers: [HeirController, GuardedHeirController],
        providers: [{ provide: APP_GUARD, useExisting: AuthenticatedGuard }],
      });
      const statuses: Record<string, number> = {};
      for (const path of ['/heir/inherited', '/heir/taken-back', '/guarded/inherited', '/guarded/open']) {
        statuses[path] = (await served.http.get(path)).status;
      }
      expect(statuses).toEqual({
        '/heir/inherited': 200,
        '/heir/taken-back': 401,
        '/guarded/inherited': 401,
        '/guarded/open': 200,
      });
    });
  });
});

describe('a path of this site', () => {
  it.each(['/', '/a', '/a/b?c=//d#e', '/%2f%2fevil', '/a\u00e9'])('%j is one', (path) => {
    expect(isLocalPath(path)).toBe(true);
    expect(new URL(path, 'http://here.test').origin).toBe('http://here.test');
  });

  it.each([
    ...[
      '',
      'a',
      '//evil',
      '/\\evil',
      '\\evil',
      '/\t/evil',
      '/\n/evil',
      '/a\\b',
      ' /a',
      'https:evil',
      '%2f%2fevil',
    ],
    ...['https://evil', 'javascript:alert(1)', '/\u0000', undefined, null, {}, ['/a']],
  ])('%j is none', (path) => {
    expect(isLocalPath(path)).toBe(false);
  });
});
