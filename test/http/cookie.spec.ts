import { Controller, Get, Header, Query, Req, Res } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { Session, type SessionModuleOptions } from 'nest-session';
import { onBothAdapters, SECRET, type Served, serve, sessionCookies, setCookies } from '../support/app.js';

interface Reply {
  header?(name: string, value: string): unknown;
  raw?: { setHeader(name: string, value: string): void };
  setHeader?(name: string, value: string): void;
}

@Controller()
class CookieController {
  @Get('set')
  set(@Session() session: Session<any>, @Query('value') value = '1') {
    session.set('value', value);
    return { id: session.id };
  }

  @Get('look')
  look(@Session() session: Session<any>) {
    return { value: session.get('value') ?? null };
  }

  @Get('ignore')
  ignore() {
    return 'nothing to do with sessions';
  }

  @Get('logout')
  async logout(@Session() session: Session<any>) {
    await session.logout();
  }

  @Get('busy')
  async busy(@Session() session: Session<any>) {
    session.set('value', '1');
    await session.save();
    await session.regenerate();
    await session.logout();
    session.set('value', '2');
    await session.save();
    await session.regenerate();
    return { id: session.id };
  }

  @Get('own-cookies')
  ownCookies(@Session() session: Session<any>, @Res({ passthrough: true }) reply: Reply) {
    session.set('value', '1');
    (reply.header ?? reply.setHeader)?.call(reply, 'Set-Cookie', 'own=1; Path=/');
    return {};
  }

  @Get('same-name')
  sameName(@Session() session: Session<any>, @Res({ passthrough: true }) reply: Reply) {
    session.set('value', '1');
    const lines = ['session_id=stale; Path=/', 'session_id_too=kept; Path=/'];
    (reply.header ?? reply.setHeader)?.call(reply, 'Set-Cookie', lines as never);
    return {};
  }

  @Get('own-caching')
  @Header('Cache-Control', 'private, max-age=5')
  @Header('Vary', 'Accept-Encoding')
  ownCaching(@Session() session: Session<any>) {
    session.set('value', '1');
    return {};
  }

  @Get('cached')
  cached(
    @Session() session: Session<any>,
    @Query('as') as: string,
    @Res({ passthrough: true }) reply: Reply,
  ) {
    session.set('value', '1');
    (reply.header ?? reply.setHeader)?.call(reply, 'Cache-Control', as);
    return {};
  }

  @Get('cached-and-read')
  @Header('Cache-Control', 'public, max-age=60')
  cachedAndRead(@Session() session: Session<any>) {
    return { value: session.get('value') };
  }

  @Get('scheme')
  scheme(@Req() request: { protocol: string }) {
    return { protocol: request.protocol };
  }
}

const NAME = /^session_id=[A-Za-z0-9_-]{43}\.[A-Za-z0-9_-]{43}/;

onBothAdapters((adapter) => {
  let served: Served | undefined;
  afterEach(async () => {
    await served?.close();
    served = undefined;
  });

  async function start(options: Partial<SessionModuleOptions> = {}, more: { trustProxy?: boolean } = {}) {
    served = await serve(adapter, { controllers: [CookieController], options, ...more });
    return served;
  }

  describe('the line, byte for byte', () => {
    it.each<[string, Partial<SessionModuleOptions>, string]>([
      ['by default', {}, '; Path=/; HttpOnly; SameSite=Lax; Max-Age=86400'],
      [
        'with every attribute',
        {
          maxAge: '30m',
          cookie: {
            path: '/app',
            domain: 'example.com',
            sameSite: 'strict',
            secure: true,
            partitioned: true,
            priority: 'high',
          },
        },
        '; Path=/app; Domain=example.com; HttpOnly; SameSite=Strict; Max-Age=1800; Secure; Partitioned; Priority=High',
      ],
      [
        'readable by scripts',
        { cookie: { httpOnly: false, priority: 'low' } },
        '; Path=/; SameSite=Lax; Max-Age=86400; Priority=Low',
      ],
      [
        'capped at 400 days',
        { maxAge: '500d', absoluteMaxAge: '600d' },
        '; Path=/; HttpOnly; SameSite=Lax; Max-Age=34560000',
      ],
    ])('%s', async (_, options, attributes) => {
      await start(options);
      const response = await served!.http.get('/set');
      const [line] = sessionCookies(response);
      expect(line.replace(NAME, '')).toBe(attributes);
    });

    it('SameSite=None forces Secure over plain HTTP too, and with it the __Host- prefix', async () => {
      await start({ cookie: { sameSite: 'none', secure: false } });
      const [line] = sessionCookies(await served!.http.get('/set'));
      expect(line).toMatch(
        /^__Host-session_id=[^;]+; Path=\/; HttpOnly; SameSite=None; Max-Age=86400; Secure$/,
      );
    });

    it('is deleted with the same name, path, domain and attributes, and Max-Age=0', async () => {
      await start({
        cookie: { path: '/', domain: 'example.com', secure: true, partitioned: true, priority: 'medium' },
      });
      const browser = served!.browser();
      const [set] = sessionCookies(await browser.get('/set'));
      const [deleted] = sessionCookies(await browser.get('/logout'));
      expect(deleted).toBe(set.replace(/=[^;]*/, '=').replace('Max-Age=86400', 'Max-Age=0'));
    });
  });

  it('carries the secret, of which the public id is the SHA-256', async () => {
    const { http } = await start();
    const response = await http.get('/set');
    const secret = /^session_id=([^.]+)\./.exec(sessionCookies(response)[0])?.[1] as string;
    expect(Buffer.from(secret, 'base64url')).toHaveLength(32);
    expect(response.body.id).toBe(createHash('sha256').update(secret).digest('hex'));
  });

  it('carries as many random bytes as asked for', async () => {
    const { http } = await start({ idBytes: 16 });
    const [line] = sessionCookies(await http.get('/set'));
    expect(/^session_id=([^.]+)\./.exec(line)?.[1]).toHaveLength(22);
  });

  it('comes once, however often the session changes, and names the last one', async () => {
    const browser = (await start()).browser();
    const response = await browser.get('/busy');
    expect(setCookies(response)).toHaveLength(1);
    expect((await browser.get('/look')).body).toEqual({ value: '2' });
    expect(await served!.sessions.count()).toBe(1);
  });

  it('comes beside the application’s own cookies', async () => {
    const { http } = await start();
    const lines = setCookies(await http.get('/own-cookies'));
    expect(lines).toEqual(['own=1; Path=/', expect.stringMatching(NAME)]);
  });

  it('replaces a line of its own name that something else has set: of one name there is one', async () => {
    const { http } = await start();
    const lines = setCookies(await http.get('/same-name'));
    expect(lines).toEqual(['session_id_too=kept; Path=/', expect.stringMatching(NAME)]);
  });

  describe('Secure', () => {
    it('is off on plain HTTP by default, and the name then has no prefix', async () => {
      const { http } = await start();
      expect(sessionCookies(await http.get('/set'))[0]).not.toMatch(/Secure|__Host-/);
    });

    it('is on, with the prefix, when a trusted proxy says HTTPS', async () => {
      const { http } = await start({}, { trustProxy: true });
      const first = await http.get('/set').set('X-Forwarded-Proto', 'https');
      const [line] = sessionCookies(first);
      expect(line).toMatch(/^__Host-session_id=.+; Secure$/);
      const second = await http
        .get('/look')
        .set('X-Forwarded-Proto', 'https')
        .set('Cookie', line.split(';')[0]);
      expect(second.body).toEqual({ value: '1' });
      expect(served!.log).toEqual([]);
    });

    it.each(['HTTPS', 'Https', 'wss'])('is on when a trusted proxy says %s', async (scheme) => {
      const { http } = await start({}, { trustProxy: true });
      const [line] = sessionCookies(await http.get('/set').set('X-Forwarded-Proto', scheme));
      expect(line).toMatch(/^__Host-session_id=.+; Secure$/);
    });

    it('does not believe a proxy that is not trusted', async () => {
      const { http } = await start();
      const [line] = sessionCookies(await http.get('/set').set('X-Forwarded-Proto', 'https'));
      expect(line).not.toMatch(/Secure|__Host-/);
    });

    it('when true, is set behind a proxy nobody told us about too, with one warning that names the setting', async () => {
      const { http } = await start({ cookie: { secure: true } });
      for (let request = 0; request < 3; request++) {
        expect(sessionCookies(await http.get('/set'))[0]).toMatch(/^__Host-session_id=.+; Secure$/);
      }
      const warnings = served!.log.filter((line) => /trust/.test(line));
      expect(warnings).toHaveLength(1);
      expect(warnings[0]).toMatch(/app\.set\('trust proxy', 1\).*FastifyAdapter\(\{ trustProxy: true \}\)/);
    });

    it.each<[string, SessionModuleOptions['cookie'], RegExp]>([
      ['another path', { secure: true, path: '/app' }, /^session_id=/],
      ['a domain', { secure: true, domain: 'example.com' }, /^session_id=/],
      ['hostPrefix: false', { secure: true, hostPrefix: false }, /^session_id=/],
      ['hostPrefix: true', { hostPrefix: true }, /^__Host-session_id=.+; Secure$/],
    ])('with %s', async (_, cookie, expected) => {
      const { http } = await start({ cookie });
      expect(setCookies(await http.get('/set'))[0]).toMatch(expected);
    });
  });

  describe('caching', () => {
    it('is forbidden when a cookie is set, and varies by cookie', async () => {
      const { http } = await start();
      expect((await http.get('/set')).headers).toMatchObject({ 'cache-control': 'no-store', vary: 'Cookie' });
    });

    it('varies by cookie when the session was read, with or without one', async () => {
      const browser = (await start()).browser();
      expect((await browser.get('/look')).headers).toMatchObject({ vary: 'Cookie' });
      await browser.get('/set');
      const response = await browser.get('/look');
      expect(response.headers).toMatchObject({ vary: 'Cookie' });
      expect(response.headers).not.toHaveProperty('cache-control');
    });

    it('is the application’s business on a page that never looks at the session', async () => {
      const browser = (await start()).browser();
      await browser.get('/set');
      const { headers } = await browser.get('/ignore');
      expect(headers).not.toHaveProperty('vary');
      expect(headers).not.toHaveProperty('cache-control');
    });

    it.each([
      ['max-age=60', 'private, max-age=60'],
      ['public, max-age=60', 'private, max-age=60'],
      ['PUBLIC, Max-Age=60, immutable', 'private, Max-Age=60, immutable'],
      ['s-maxage=600,max-age=60', 'private, max-age=60'],
      ['must-revalidate, max-age=0', 'private, must-revalidate, max-age=0'],
      ['max-age=60, no-cache="Set-Cookie"', 'private, max-age=60, no-cache="Set-Cookie"'],
      ['private="X-User, no-store", max-age=60', 'private, max-age=60'],
      ['max-age=60, x-private', 'private, max-age=60, x-private'],
      ['max-age=60, private', 'max-age=60, private'],
      ['No-Store', 'No-Store'],
      ['no-cache', 'no-cache'],
    ])('is not left to a shared cache where a cookie is set: %s', async (said, sent) => {
      const response = await (await start()).http.get('/cached').query({ as: said });
      expect(sessionCookies(response)).toHaveLength(1);
      expect(response.headers['cache-control']).toBe(sent);
    });

    it('is what the handler said where no cookie is set', async () => {
      const browser = (await start()).browser();
      await browser.get('/set');
      const response = await browser.get('/cached-and-read');
      expect(response.body).toEqual({ value: '1' });
      expect(response.headers).toMatchObject({ 'cache-control': 'public, max-age=60', vary: 'Cookie' });
    });

    it('keeps what the handler said', async () => {
      const { http } = await start();
      expect((await http.get('/own-caching')).headers).toMatchObject({
        'cache-control': 'private, max-age=5',
        vary: 'Accept-Encoding, Cookie',
      });
    });
  });

  describe('several secrets', () => {
    const newer = 'a newer secret, which also has thirty-two bytes';

    async function cookieUnder(secret: SessionModuleOptions['secret']): Promise<[string, Served['store']]> {
      const { store } = await start({ secret });
      const browser = served!.browser();
      await browser.get('/set');
      const cookie = browser.cookie as string;
      await served!.close();
      return [cookie, store];
    }

    it('accept a cookie signed with an older one, and issue it anew under the first', async () => {
      const [cookie, store] = await cookieUnder(SECRET);
      const { http } = await start({ secret: [newer, SECRET], store: store.inner });
      const response = await http.get('/look').set('Cookie', cookie);
      expect(response.body).toEqual({ value: '1' });
      const [line] = sessionCookies(response);
      expect(line).toBeDefined();
      const [oldSecret, oldSignature] = cookie.replace('session_id=', '').split('.');
      const [secret, signature] = line.replace('session_id=', '').split(';')[0].split('.');
      expect(secret).toBe(oldSecret);
      expect(signature).not.toBe(oldSignature);
      expect(served!.store.drain()).toEqual(['load']);

      const again = await http.get('/look').set('Cookie', line.split(';')[0]);
      expect(again.body).toEqual({ value: '1' });
      expect(sessionCookies(again)).toEqual([]);
    });

    it('do not accept one that has been dropped', async () => {
      const [cookie, store] = await cookieUnder(SECRET);
      const { http } = await start({ secret: newer, store: store.inner });
      const response = await http.get('/look').set('Cookie', cookie);
      expect(response.body).toEqual({ value: null });
      expect(served!.store.drain()).toEqual([]);
    });
  });
});
