import { Module, UseInterceptors } from '@nestjs/common';
import { WsAdapter } from '@nestjs/platform-ws';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import {
  CookieStore,
  MemoryStore,
  Session,
  SessionInterceptor,
  SessionModule,
  SessionTooLargeError,
} from 'nest-session';
import { readSession, sessionCookie } from 'nest-session/testing';
import type { AddressInfo } from 'node:net';
import request from 'supertest';
import {
  Browser,
  Clock,
  createApp,
  onBothAdapters,
  SECRET,
  sessionCookies,
  setCookies,
} from '../../support/app.js';
import {
  ANONYMOUS,
  closeSites,
  filler,
  forge,
  keyIdOf,
  PageController,
  pairs,
  payload,
  SECRETS,
  Site,
  sites,
  start,
} from '../../support/cookie-site.js';
import { connect } from '../../support/sockets.js';

afterEach(closeSites);

onBothAdapters((adapter) => {
  describe('a session travels in its cookie', () => {
    it('and is there in another process that has the secret and nothing else', async () => {
      const clock = new Clock();
      const [one, two] = [await start(adapter, { clock }), await start(adapter, { clock })];
      const browser = one.browser();
      await browser.get('/set?theme=dark');
      await browser.post('/login', { as: 'alice' });
      expect(browser.cookie).toMatch(/^session_id=1\.[A-Za-z0-9_-]{8}\.[A-Za-z0-9_-]+$/);
      const here = await one.look(browser.cookie as string);
      const there = await two.look(browser.cookie as string);
      expect(there).toEqual(here);
      expect(there).toMatchObject({ data: { theme: 'dark', userId: 'alice' } });
    });

    it('which says nothing of what is in it', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      await browser.get('/set?theme=unmistakable');
      const [, , sealed] = (browser.cookie as string).split('.');
      expect(Buffer.from(sealed, 'base64url').toString('latin1')).not.toMatch(/unmistak|theme|data/);
    });

    it('and in another each time, sealed with another nonce', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      const seen = new Set<string>();
      for (let round = 0; round < 10; round++) {
        await browser.get(`/set?round=${round % 2}`);
        seen.add((browser.cookie as string).slice(0, 60));
      }
      expect(seen.size).toBe(10);
    });

    it('with its times: of creation, of the last use, of expiry', async () => {
      const clock = new Clock();
      const [one, two] = [await start(adapter, { clock }), await start(adapter, { clock })];
      const browser = one.browser();
      const created = clock.now;
      await browser.get('/set?a=1');
      clock.pass(20_000);
      await browser.get('/set?a=2');
      const used = clock.now;
      clock.pass(60);
      const { body } = await request(two.url)
        .get('/times')
        .set('Cookie', browser.cookie as string);
      expect(body).toEqual({
        created: new Date(created).toISOString(),
        used: new Date(used).toISOString(),
        expires: new Date(used + 86_400_000).toISOString(),
      });
    });

    it('of a visitor who has none there is no cookie, and none for reading what is not there', async () => {
      const site = await start(adapter);
      for (const path of ['/plain', '/look', '/notice', '/read']) {
        const response = await request(site.url).get(path).expect(200);
        expect(setCookies(response)).toEqual([]);
      }
    });

    it('reading sends no cookie', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      await browser.get('/set?a=1');
      site.clock.pass(60);
      for (const path of ['/plain', '/look', '/notice', '/times']) {
        expect(setCookies(await browser.get(path))).toEqual([]);
      }
    });

    it('an answer that says what was there already sends no cookie either', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      await browser.get('/set?a=1');
      expect(setCookies(await browser.get('/set?a=1'))).toEqual([]);
      expect(setCookies(await browser.get('/delete?key=b'))).toEqual([]);
    });

    it('every change sends one cookie, and one only', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      for (const path of ['/set?a=1', '/set?a=2', '/delete?key=a']) {
        const response = await browser.get(path);
        expect(setCookies(response)).toHaveLength(1);
        expect(sessionCookies(response)).toHaveLength(1);
        expect(response.headers['cache-control']).toBe('no-store');
        expect(response.headers.vary).toMatch(/cookie/i);
      }
      expect(await site.look(browser.cookie as string)).toMatchObject({ data: {} });
    });

    it('flash messages are read once', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      await browser.post('/flash', { key: 'notice', length: 3 });
      expect((await browser.get('/notice')).body).toEqual({ notice: 'xxx' });
      expect((await browser.get('/notice')).body).toEqual({});
    });
  });

  describe('a session ends', () => {
    const HOUR = 3600;

    it('when it was idle for maxAge, to the millisecond, and its cookie with it', async () => {
      const site = await start(adapter, { options: { maxAge: HOUR, rolling: false } });
      const browser = site.browser();
      await browser.get('/set?a=1');
      site.clock.now += HOUR * 1000 - 1;
      expect(await site.look(browser.cookie as string)).toMatchObject({ data: { a: '1' } });
      site.clock.now += 1;
      site.events.length = 0;
      const response = await browser.get('/look');
      expect(response.body).toEqual(ANONYMOUS);
      expect(sessionCookies(response)).toEqual([expect.stringMatching(/^session_id=;.*Max-Age=0/)]);
      expect(site.events).toEqual([{ type: 'expired', id: expect.any(String) }]);
    });

    it('when it has reached absoluteMaxAge, however often it is used', async () => {
      const site = await start(adapter, { options: { maxAge: HOUR, absoluteMaxAge: 3 * HOUR } });
      const browser = site.browser();
      await browser.get('/set?a=1');
      const created = site.clock.now;
      for (let used = 0; used < 5; used++) {
        site.clock.pass(HOUR / 2);
        await browser.get(`/set?used=${used}`);
      }
      site.clock.now = created + 3 * HOUR * 1000 - 1;
      expect((await browser.get('/look')).body.data).toEqual({ a: '1', used: '4' });
      await browser.get('/set?used=last');
      site.clock.now += 1;
      expect((await browser.get('/look')).body).toEqual(ANONYMOUS);
    });

    it('no later for a new id', async () => {
      const site = await start(adapter, { options: { maxAge: HOUR, absoluteMaxAge: 3 * HOUR } });
      const browser = site.browser();
      await browser.get('/set?a=1');
      const created = site.clock.now;
      for (let used = 0; used < 5; used++) {
        site.clock.pass(HOUR / 2);
        await browser.post('/regenerate');
      }
      site.clock.now = created + 3 * HOUR * 1000 - 1;
      expect((await browser.get('/look')).body.data).toEqual({ a: '1' });
      site.clock.now += 1;
      expect((await browser.get('/look')).body).toEqual(ANONYMOUS);
    });

    it.each([
      ['maxAge', { maxAge: HOUR / 2 }],
      ['absoluteMaxAge', { maxAge: HOUR, absoluteMaxAge: HOUR / 2 }],
    ])('by the rules of today, when %s was shortened after it was sealed', async (_, shorter) => {
      const before = await start(adapter, { options: { maxAge: HOUR } });
      const { clock } = before;
      const browser = before.browser();
      await browser.get('/set?a=1');
      const today = await start(adapter, { clock, options: { ...shorter, rolling: false } });
      clock.now += (HOUR / 2) * 1000 - 1;
      expect(await today.look(browser.cookie as string)).toMatchObject({ data: { a: '1' } });
      clock.now += 1;
      expect(await today.look(browser.cookie as string)).toEqual(ANONYMOUS);
      expect(await before.look(browser.cookie as string)).toMatchObject({ data: { a: '1' } });
    });

    it('when it was to end as it was sealed, though maxAge was lengthened since', async () => {
      const before = await start(adapter, { options: { maxAge: HOUR } });
      const { clock } = before;
      const browser = before.browser();
      await browser.get('/set?a=1');
      const today = await start(adapter, { clock, options: { maxAge: 9 * HOUR, rolling: false } });
      clock.now += HOUR * 1000;
      expect(await today.look(browser.cookie as string)).toEqual(ANONYMOUS);
    });

    it('before it began: issued more than a minute from now, it was made by nobody', async () => {
      const site = await start(adapter);
      const { now } = site.clock;
      const issued = (savedAt: number, createdAt = now) =>
        site.look(
          `session_id=${forge(payload(now, { savedAt, createdAt, data: { a: savedAt + createdAt } }))}`,
        );
      expect(await issued(now + 60_001)).toEqual(ANONYMOUS);
      expect(await issued(now, now + 60_001)).toEqual(ANONYMOUS);
      expect(await issued(2 ** 53 - 1)).toEqual(ANONYMOUS);
      expect((await issued(now + 60_000)).data).toEqual({ a: 2 * now + 60_000 });
    });

    it('with its cookie, whose Max-Age says when', async () => {
      const site = await start(adapter, { options: { maxAge: HOUR, absoluteMaxAge: 2 * HOUR } });
      const browser = site.browser();
      expect(sessionCookies(await browser.get('/set?a=1'))[0]).toContain(`Max-Age=${HOUR}`);
      site.clock.pass(0.9 * HOUR);
      expect(sessionCookies(await browser.get('/set?a=2'))[0]).toContain(`Max-Age=${HOUR}`);
      site.clock.pass(0.9 * HOUR);
      expect(sessionCookies(await browser.get('/set?a=3'))[0]).toContain(`Max-Age=${0.2 * HOUR}`);
    });

    it('is put off by any use, a tenth of maxAge at a time', async () => {
      const site = await start(adapter, { options: { maxAge: HOUR } });
      const browser = site.browser();
      await browser.get('/set?a=1');
      site.clock.now += (HOUR / 10) * 1000 - 1;
      expect(setCookies(await browser.get('/look'))).toEqual([]);
      site.clock.now += 1;
      expect(sessionCookies(await browser.get('/plain'))).toEqual([
        expect.stringContaining(`Max-Age=${HOUR}`),
      ]);
      expect(setCookies(await browser.get('/look'))).toEqual([]);
      site.clock.pass(HOUR - 1);
      expect((await browser.get('/look')).body.data).toEqual({ a: '1' });
    });

    it('is put off by nothing but writing when it does not roll', async () => {
      const site = await start(adapter, { options: { maxAge: HOUR, rolling: false } });
      const browser = site.browser();
      await browser.get('/set?a=1');
      site.clock.pass(HOUR / 2);
      expect(setCookies(await browser.get('/look'))).toEqual([]);
      await browser.get('/set?a=2');
      site.clock.pass(HOUR - 1);
      expect((await browser.get('/look')).body.data).toEqual({ a: '2' });
    });
  });

  describe('secrets are changed', () => {
    const [newer, older] = SECRETS;

    it('an older one opens, and the answer seals anew under the first', async () => {
      const before = await start(adapter, { options: { secret: older } });
      const { clock } = before;
      const browser = before.browser();
      await browser.get('/set?a=1');
      const [oldId, newId] = [older, newer].map((secret) => keyIdOf(Buffer.from(secret)));
      expect(browser.cookie).toContain(`=1.${oldId}.`);

      const both = await start(adapter, { clock, options: { secret: [newer, older] } });
      const moving = both.browserWith(browser.cookies);
      const response = await moving.get('/look');
      expect(response.body.data).toEqual({ a: '1' });
      expect(sessionCookies(response)).toEqual([expect.stringContaining(`session_id=1.${newId}.`)]);
      expect(setCookies(await moving.get('/look'))).toEqual([]);

      const after = await start(adapter, { clock, options: { secret: newer } });
      expect(await after.look(moving.cookie as string)).toMatchObject({
        data: { a: '1' },
        id: response.body.id,
      });
    });

    it('by a route that has nothing to do with sessions as well', async () => {
      const before = await start(adapter, { options: { secret: older } });
      const browser = before.browser();
      await browser.get('/set?a=1');
      const both = await start(adapter, { clock: before.clock, options: { secret: [newer, older] } });
      const moving = both.browserWith(browser.cookies);
      expect(sessionCookies(await moving.get('/plain'))).toHaveLength(1);
      expect((await moving.get('/look')).body.data).toEqual({ a: '1' });
    });

    it('a session sealed anew lives no longer for it', async () => {
      const options = { maxAge: 3600, rolling: false };
      const before = await start(adapter, { options: { ...options, secret: older } });
      const { clock } = before;
      const browser = before.browser();
      await browser.get('/set?a=1');
      clock.pass(1800);
      const both = await start(adapter, { clock, options: { ...options, secret: [newer, older] } });
      const moving = both.browserWith(browser.cookies);
      expect(sessionCookies(await moving.get('/look'))[0]).toContain('Max-Age=1800');
      clock.pass(1800);
      expect((await moving.get('/look')).body).toEqual(ANONYMOUS);
    });

    it('one that was removed opens nothing', async () => {
      const before = await start(adapter, { options: { secret: [older, newer] } });
      const browser = before.browser();
      await browser.get('/set?a=1');
      const after = await start(adapter, { clock: before.clock, options: { secret: newer } });
      const response = await after.browserWith(browser.cookies).get('/look');
      expect(response.body).toEqual(ANONYMOUS);
      expect(setCookies(response)).toEqual([]);
    });
  });

  describe('however it is answered', () => {
    it.each([
      ['@Res()', '/by-hand?value=1', 'byHand', 200],
      ['a stream', '/stream?value=1', 'stream', 200],
      ['a redirect', '/redirect?value=1', 'redirect', 302],
    ])('by %s, the cookie is there', async (_, path, key, status) => {
      const clock = new Clock();
      const [one, two] = [await start(adapter, { clock }), await start(adapter, { clock })];
      const browser = one.browser();
      for (const before of [() => {}, () => browser.post('/login', { as: 'alice' })]) {
        await before();
        const response = await browser.get(`${path}${browser.cookies.size}`);
        expect(response.status).toBe(status);
        expect(sessionCookies(response)).toHaveLength(1);
        expect((await two.look(browser.cookie as string)).data).toHaveProperty(key);
      }
    });

    it('by @Res() with what does not fit, it is a 500 and the session as it was', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      await browser.get('/by-hand?value=1');
      const response = await browser.get(`/by-hand?value=${filler(5_000)}`);
      expect(response.status).toBe(500);
      expect(setCookies(response)).toEqual([]);
      expect(site.log.join('\n')).toContain('Its largest key is byHand. ');
      expect((await browser.get('/look')).body.data).toEqual({ byHand: '1' });
    });

    it('what is written once the headers have left is refused, not lost in silence', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      await browser.get('/set?a=1');
      const response = await browser.get('/late?what=write');
      expect(response.text).toContain('SessionUsageError: The session needs a new cookie, but the headers');
      expect((await browser.get('/look')).body.data).toEqual({ a: '1' });
    });
  });

  describe('where there is no response', () => {
    let site: Site;
    let browser: Browser;

    @WebSocketGateway({ path: '/chat' })
    @UseInterceptors(SessionInterceptor)
    class ChatGateway {
      @SubscribeMessage('read')
      read(@Session() session: Session<any>) {
        return { event: 'answer', data: session.data };
      }

      @SubscribeMessage('set')
      async set(@Session() session: Session<any>, @MessageBody() values: object) {
        try {
          await session.update(values).save();
          return { event: 'answer', data: 'saved' };
        } catch (error) {
          return { event: 'answer', data: String(error) };
        }
      }
    }

    beforeEach(async () => {
      site = await start(adapter, {
        providers: [ChatGateway],
        prepare: (app) => app.useWebSocketAdapter(new WsAdapter(app)),
      });
      browser = site.browser();
      await browser.get('/set?a=1');
    });

    it('a socket reads the session of its handshake, and is told that it cannot write', async () => {
      const client = await connect('ws', site.url, '/chat', browser.cookie);
      try {
        expect((await client.ask('read')).data).toEqual({ a: '1' });
        const { data } = await client.ask('set', { a: '2' });
        expect(data).toMatch(/^SessionUsageError: .*no response to put it in: sockets and subscriptions/);
        expect((await browser.get('/look')).body.data).toEqual({ a: '1' });
      } finally {
        client.close();
      }
    });

    it('a subscription, or whoever else opens a bare request, reads, and cannot write, log in or get a new id', async () => {
      const bare = async () =>
        (await site.sessions.open({ headers: { cookie: browser.cookie } })) as Session<any>;
      expect((await bare()).get('a')).toBe('1');
      for (const write of [
        async () => (await bare()).set('a', '2').save(),
        async () => (await bare()).login('alice'),
        async () => (await bare()).regenerate(),
      ]) {
        await expect(write()).rejects.toMatchObject({ code: 'E_SESSION_USAGE' });
      }
      expect((await browser.get('/look')).body.data).toEqual({ a: '1' });
    });
  });

  describe('CSRF tokens', () => {
    it('are good from form to login to form, and a write does not end them', async () => {
      const site = await start(adapter, { store: { revocations: new MemoryStore() } });
      const browser = site.browser();
      const token = async () => ((await browser.get('/form')).body as { token: string }).token;
      const send = (path: string, with_: string) => browser.post(path).set('X-CSRF-Token', with_);

      const visitors = await token();
      expect((await send('/guarded', visitors)).status).toBe(200);
      expect((await send('/guarded', visitors)).body).toEqual({ writes: 2 });
      const sessions = await token();
      expect((await send('/guarded-login', sessions)).status).toBe(200);
      for (const old of [visitors, sessions]) expect((await send('/guarded', old)).status).toBe(403);

      const users = await token();
      expect((await send('/guarded', users)).body).toEqual({ writes: 3 });
      expect((await send('/guarded', users)).body).toEqual({ writes: 4 });
      await browser.post('/logout');
      expect((await send('/guarded', users)).status).toBe(403);
    });

    it('are good in another process', async () => {
      const clock = new Clock();
      const [one, two] = [await start(adapter, { clock }), await start(adapter, { clock })];
      const browser = one.browser();
      await browser.post('/login', { as: 'alice' });
      const { token } = (await browser.get('/form')).body as { token: string };
      const there = two.browserWith(browser.cookies);
      expect((await there.post('/guarded').set('X-CSRF-Token', token)).status).toBe(200);
    });
  });

  it('a Secure cookie is called __Host-, and its value is good under that name alone', async () => {
    const site = await start(adapter, { trustProxy: true });
    const https = (path: string, cookie = '') =>
      request(site.url).get(path).set('X-Forwarded-Proto', 'https').set('Cookie', cookie);
    const [[name, value, line]] = pairs(await https('/set?a=1'));
    expect(name).toBe('__Host-session_id');
    expect(line).toMatch(/; Path=\/; HttpOnly; SameSite=Lax; Max-Age=86400; Secure$/);
    expect((await https('/look', `__Host-session_id=${value}`)).body.data).toEqual({ a: '1' });
    expect((await https('/look', `session_id=${value}`)).body).toEqual(ANONYMOUS);
    expect(await site.look(`session_id=${value}`)).toEqual(ANONYMOUS);
    expect(await site.look(`__Host-session_id=${value}`)).toEqual(ANONYMOUS);
  });

  describe('nest-session/testing', () => {
    it.each([
      ['one cookie', 1, 100],
      ['three', 3, 8_000],
    ])('makes and reads sessions in %s', async (_, chunks, length) => {
      const site = await start(adapter, { store: { chunks } });
      const cookie = await sessionCookie(site.app, { userId: 'alice', big: filler(length) } as never);
      expect(cookie.split('; ')).toHaveLength(chunks);
      expect((await site.look(cookie)).data).toEqual({ userId: 'alice', big: filler(length) });
      expect(await readSession(site.app, cookie)).toMatchObject({
        userId: 'alice',
        data: { userId: 'alice', big: filler(length) },
      });

      const response = await site.browser().post('/fill', { big: length });
      for (let reading = 0; reading < 2; reading++) {
        expect(await readSession(site.app, response)).toMatchObject({ data: { big: filler(length) } });
      }
      const flashed = await site.browser().post('/flash', { key: 'notice', length: 1 });
      expect(await readSession(site.app, flashed)).toMatchObject({ flash: { notice: 'x' }, data: {} });
    });

    it('knows the name of a Secure cookie', async () => {
      const site = await start(adapter, { options: { cookie: { secure: true } }, store: { chunks: 2 } });
      const cookie = await sessionCookie(site.app, { userId: 'alice', big: filler(5_000) } as never);
      expect(cookie).toMatch(/^__Host-session_id=[^;]*; __Host-session_id\.1=/);
      expect(await readSession(site.app, cookie)).toMatchObject({ userId: 'alice' });
    });

    it('reads nothing from a logout, nor from a cookie from before it', async () => {
      const site = await start(adapter, { store: { revocations: new MemoryStore() } });
      const browser = site.browser();
      await browser.post('/login', { as: 'alice' });
      const cookie = browser.cookie as string;
      expect(await readSession(site.app, await browser.post('/logout'))).toBeUndefined();
      expect(await readSession(site.app, cookie)).toBeUndefined();
    });

    it('says when what a test asks for does not fit', async () => {
      const site = await start(adapter);
      await expect(sessionCookie(site.app, { big: filler(5_000) } as never)).rejects.toBeInstanceOf(
        SessionTooLargeError,
      );
    });
  });

  it('SESSION_DRIVER=cookie is all it takes', async () => {
    const before = { ...process.env };
    Object.assign(process.env, { SESSION_DRIVER: 'cookie', SESSION_SECRET: SECRET.replace(',', '') });
    try {
      @Module({ imports: [SessionModule.forRoot()], controllers: [PageController] })
      class Root {}
      const log: string[] = [];
      const app = await createApp(adapter, Root, { log });
      await app.listen(0, '127.0.0.1');
      const { port } = app.getHttpServer().address() as AddressInfo;
      const site = new Site(app, `http://127.0.0.1:${port}`, new Clock(), log);
      sites.push(site);
      expect(site.sessions.store).toBeInstanceOf(CookieStore);
      const browser = site.browser();
      await browser.get('/set?a=1');
      expect(browser.cookie).toMatch(/^session_id=1\./);
      expect((await browser.get('/look')).body.data).toEqual({ a: '1' });
      expect(log).toEqual([expect.stringContaining('CookieStore has no revocations')]);
    } finally {
      process.env = before;
    }
  });

  it('an expired copy of a cookie does not end the session, whose later cookie lives', async () => {
    const site = await start(adapter, { options: { maxAge: 3600 } });
    const browser = site.browser();
    await browser.post('/login', { as: 'alice' });
    const copy = browser.copy();
    site.clock.pass(1800);
    await browser.get('/set?a=1');
    site.clock.pass(1800);
    expect((await copy.get('/look')).body).toEqual(ANONYMOUS);
    expect((await browser.get('/look')).body.data).toEqual({ userId: 'alice', a: '1' });
  });
});
