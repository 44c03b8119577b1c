import { Controller, Get, Res, Sse } from '@nestjs/common';
import type { ServerResponse } from 'node:http';
import { Session, type SessionModuleOptions, SessionStoreUnavailableException } from 'nest-session';
import { Readable } from 'node:stream';
import { of } from 'rxjs';
import { type Browser, onBothAdapters, type Served, serve, sessionCookies } from '../support/app.js';

type Any = Session<any>;

@Controller()
class FailingController {
  @Get('look')
  look(@Session() session: Any) {
    return { value: session.get('value') ?? null, userId: session.userId ?? null };
  }

  @Get('ignore')
  ignore() {
    return { fine: true };
  }

  @Get('leave')
  leave(@Session() session: Any) {
    session.delete('userId');
  }

  @Get('leave-null')
  leaveNull(@Session() session: Any) {
    session.set('userId', null);
  }

  @Get('clear')
  clear(@Session() session: Any) {
    session.clear();
  }

  @Get('set')
  set(@Session() session: Any) {
    session.set('value', 'new');
    return { ok: true };
  }

  @Get('res-set')
  resSet(@Session() session: Any, @Res() response: { send(body: object): void }) {
    session.set('value', 'new');
    response.send({ ok: true });
  }

  @Get('res-stream')
  resStream(
    @Session() session: Any,
    @Res() response: ServerResponse & { raw?: ServerResponse; hijack?(): void },
  ) {
    response.hijack?.();
    const stream = response.raw ?? response;
    session.set('value', 'new');
    stream.setHeader('Content-Type', 'text/csv');
    Readable.from(['a,b\n', '1,2\n']).pipe(stream);
  }

  @Get('res-redirect')
  resRedirect(
    @Session() session: Any,
    @Res() response: { status(code: number): { redirect(to: string): void } },
  ) {
    session.set('value', 'new');
    response.status(302).redirect('/elsewhere');
  }

  @Get('mid-stream')
  midStream(
    @Session() session: Any,
    @Res() response: ServerResponse & { raw?: ServerResponse; hijack?(): void },
  ) {
    response.hijack?.();
    const stream = response.raw ?? response;
    stream.write('the first half,');
    session.set('value', 'new');
    stream.end('the second');
  }

  @Sse('sse')
  sse(@Session() session: Any) {
    session.set('value', 'new');
    return of({ data: 'one' });
  }

  @Get('login')
  async login(@Session() session: Any) {
    await session.login('alice');
    return { ok: true };
  }

  @Get('become')
  become(@Session() session: Any) {
    session.set('userId', 'alice');
    return { ok: true };
  }

  @Get('regenerate')
  async regenerate(@Session() session: Any) {
    await session.regenerate();
    return { ok: true };
  }

  @Get('logout')
  async logout(@Session() session: Any) {
    await session.logout();
    return { ok: true };
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;
  const rejections: unknown[] = [];
  const note = (reason: unknown): void => void rejections.push(reason);

  async function start(options: Partial<SessionModuleOptions> = {}) {
    served = await serve(adapter, { controllers: [FailingController], options });
    browser = served.browser();
    await browser.get('/set');
    served.store.drain();
  }

  beforeAll(() => void process.on('unhandledRejection', note));
  afterAll(() => void process.off('unhandledRejection', note));
  afterEach(() => served.close());

  describe('by default, a store that cannot be reached is a 503', () => {
    beforeEach(() => start());

    it.each(['/look', '/ignore', '/set', '/login', '/logout', '/res-set'])(
      'in the load: %s',
      async (path) => {
        served.store.fail('load');
        const response = await browser.get(path);
        expect(response.status).toBe(503);
        expect(response.body).toEqual({ statusCode: 503, message: 'Service Unavailable' });
        expect(sessionCookies(response)).toEqual([]);
        expect(served.store.drain()).toEqual(['load']);

        served.store.recover();
        expect((await browser.get('/look')).body.value).toBe('new');
      },
    );

    it('but not for a visitor without a cookie, whom no store is asked about', async () => {
      served.store.fail('load', 'create', 'commit');
      expect((await served.http.get('/look')).status).toBe(200);
    });

    it.each(['/set', '/res-set', '/res-stream', '/res-redirect', '/sse', '/login', '/become'])(
      'in the first write of a visitor, who gets no cookie for it: %s',
      async (path) => {
        served.store.fail('create');
        const response = await served.browser().get(path);
        expect(response.status).toBe(503);
        expect(response.headers['content-type']).toMatch(/application\/json/);
        expect(JSON.parse(response.text)).toEqual({ statusCode: 503, message: 'Service Unavailable' });
        expect(response.headers).not.toHaveProperty('location');
        expect(sessionCookies(response)).toEqual([]);
      },
    );

    it.each([
      ['/login', 'rotate'],
      ['/become', 'rotate'],
      ['/logout', 'destroy'],
    ] as const)('in %s, which changes nothing then', async (path, operation) => {
      served.store.fail(operation);
      const response = await browser.get(path);
      expect(response.status).toBe(503);
      expect(sessionCookies(response)).toEqual([]);
      served.store.recover();
      expect((await browser.get('/look')).body).toEqual({ value: 'new', userId: null });
    });

    it('in the extension of a session that was only read', async () => {
      served.clock.pass(40_000);
      served.store.fail('touch');
      expect((await browser.get('/look')).status).toBe(503);
    });

    it('answers with an error that no cache keeps, instead of the handler’s own answer', async () => {
      served.store.fail('create');
      const response = await served.http.get('/res-set');
      expect(response.headers).toMatchObject({ 'cache-control': 'no-store' });
      expect(response.headers['content-type']).toMatch(/json/);
    });

    it('cuts the connection when half of the answer has left', async () => {
      // A value that differs from what is stored, or there is nothing to commit.
      const other = served.browser();
      await other.get('/login');
      served.store.fail('commit');
      await expect(other.get('/mid-stream')).rejects.toThrow(/aborted|hang up|terminated/);
    });

    it('tells the log why, and the client nothing', async () => {
      served.store.fail('load');
      const response = await browser.get('/look');
      expect(response.text).not.toMatch(/refused/);
      expect(served.log).toEqual([
        expect.stringMatching(/The session store could not be reached \(load\): connection refused/),
      ]);
    });
  });

  describe('a store that hangs is one that cannot be reached', () => {
    it.each([
      ['load', '/look'],
      ['create', '/set'],
      ['destroy', '/logout'],
    ] as const)('after storeTimeout, in %s', async (operation, path) => {
      await start({ storeTimeout: '50ms' });
      served.store.hang(operation);
      const client = operation === 'create' ? served.browser() : browser;
      expect((await client.get(path)).status).toBe(503);
    });
  });

  it('a store that throws at once is one that cannot be reached, too', async () => {
    await start();
    const { store } = served;
    store.load = () => {
      throw new Error('not even a promise');
    };
    expect((await browser.get('/look')).status).toBe(503);
    expect(served.log).toEqual([expect.stringMatching(/\(load\): not even a promise/)]);
  });

  it('what a store says after its time is over is neither logged nor left unhandled', async () => {
    await start({ storeTimeout: '50ms' });
    const held = served.store.hold('load');
    expect((await browser.get('/look')).status).toBe(503);
    served.store.inner.load = () => Promise.reject(new Error('too late'));
    held.release();
    await served.http.get('/look').expect(200);
    expect(served.log).toEqual([expect.stringMatching(/\(load\): no answer within 50 ms/)]);
  });

  describe("with onStoreError: 'anonymous'", () => {
    beforeEach(() => start({ onStoreError: 'anonymous' }));

    it('the request goes on without its session, which is there again later', async () => {
      served.store.fail('load');
      const response = await browser.get('/look');
      expect(response.status).toBe(200);
      expect(response.body).toEqual({ value: null, userId: null });
      expect(sessionCookies(response)).toEqual([]);
      served.store.recover();
      expect((await browser.get('/look')).body.value).toBe('new');
    });

    it('what such a request writes is not kept, and takes no cookie away', async () => {
      served.store.fail('load');
      const response = await browser.get('/set');
      expect(response.status).toBe(200);
      expect(sessionCookies(response)).toEqual([]);
      expect(served.store.drain()).toEqual(['load']);
    });

    it.each(['/set', '/res-set', '/sse'])(
      'a commit that fails leaves the answer, and sends no cookie: %s',
      async (path) => {
        served.store.fail('create');
        const response = await served.browser().get(path);
        expect(response.status).toBe(200);
        expect(sessionCookies(response)).toEqual([]);
        expect(served.log.join('\n')).toMatch(/could not be reached \(create\): connection refused/);
      },
    );

    it.each(['/login', '/become'])('nobody seems to log in: %s is a 503', async (path) => {
      served.store.fail('load', 'create');
      const response = await browser.get(path);
      expect(response.status).toBe(503);
      expect(sessionCookies(response)).toEqual([]);
    });

    it.each(['/leave', '/leave-null', '/clear'])('nobody seems to leave: %s is a 503', async (path) => {
      await browser.get('/become');
      served.store.fail('load');
      expect((await browser.get(path)).status).toBe(503);
      served.store.recover();
      expect((await browser.get('/look')).body.userId).not.toBeNull();
    });

    it('no id seems to change: that is a 503', async () => {
      served.store.fail('load');
      expect((await browser.get('/regenerate')).status).toBe(503);
    });

    it('nobody seems to log out: that is a 503', async () => {
      served.store.fail('load', 'destroy');
      expect((await browser.get('/logout')).status).toBe(503);
    });

    it('a logout works when the store is back in time', async () => {
      served.store.fail('load');
      expect((await browser.get('/logout')).status).toBe(200);
      served.store.recover();
      expect((await browser.get('/look')).body.value).toBeNull();
    });
  });

  it('the exception tells the operation and carries the cause, and keeps both from the client', () => {
    const error = new SessionStoreUnavailableException('load', new Error('connection refused'));
    expect(error).toMatchObject({
      code: 'E_SESSION_STORE_UNAVAILABLE',
      operation: 'load',
      message: 'The session store could not be reached.',
      cause: new Error('connection refused'),
    });
    expect(error.getStatus()).toBe(503);
  });

  it('none of all this left a rejection unhandled', () => {
    expect(rejections).toEqual([]);
  });
});
