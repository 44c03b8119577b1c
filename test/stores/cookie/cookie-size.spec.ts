import { CookieStore, SessionTooLargeError } from 'nest-session';
import { sessionCookie } from 'nest-session/testing';
import request from 'supertest';
import { Clock, onBothAdapters, setCookies } from '../../support/app.js';
import {
  ANONYMOUS,
  closeSites,
  filler,
  headerOf,
  pairs,
  type Site,
  start,
} from '../../support/cookie-site.js';

afterEach(closeSites);

onBothAdapters((adapter) => {
  describe('what does not fit into the cookie', () => {
    const LIMIT = 4096;

    /** The longest text that one more key can have. */
    async function room(site: Site, more: object = {}): Promise<number> {
      let [fits, not] = [0, 100_000];
      while (not - fits > 1) {
        const middle = Math.floor((fits + not) / 2);
        const { status } = await site.browser().post('/fill', { ...more, big: middle });
        if (status === 200) fits = middle;
        else not = middle;
      }
      return fits;
    }

    it.each([
      ['over HTTPS', true, '__Host-session_id', 32],
      ['over HTTPS, with another name', true, '__Host-s', 32],
      ['over HTTPS, with longer ids', true, '__Host-session_id', 256],
      ['over HTTP', false, 'session_id', 32],
    ])(
      '%s is refused to the byte: name and value are never longer than 4096',
      async (_, secure, name, idBytes) => {
        const site = await start(adapter, {
          options: { idBytes, cookie: { secure, name: name.replace('__Host-', '') } },
        });
        const longest = await room(site);
        const fits = await site.browser().post('/fill', { big: longest });
        const [[setName, value]] = pairs(fits);
        expect(setName).toBe(name);
        expect(name.length + value.length).toBeLessThanOrEqual(LIMIT);
        // Base64 has three bytes in four characters, and a plain name leaves what __Host- would take.
        expect(name.length + value.length).toBeGreaterThan(LIMIT - 4 - (secure ? 0 : '__Host-'.length));
        const response = await site.browser().post('/fill', { big: longest + 1 });
        expect(response.status).toBe(500);
        expect(setCookies(response)).toEqual([]);
      },
    );

    it('counts bytes, not characters', async () => {
      const site = await start(adapter);
      const longest = await room(site);
      const euros = Math.floor(longest / 3);
      expect((await site.browser().post('/fill', { big: '€'.repeat(euros - 10) })).status).toBe(200);
      expect((await site.browser().post('/fill', { big: '€'.repeat(euros + 10) })).status).toBe(500);
    });

    it.each([
      ['text', 5_000],
      ['an object, which may still change', { text: filler(5_000) }],
    ])('is one error that names the largest key and what to do: %s', async (_, huge) => {
      const site = await start(adapter);
      const response = await site.browser().post('/fill', { small: 100, huge, middle: 300 });
      expect(response.status).toBe(500);
      expect(setCookies(response)).toEqual([]);
      expect(site.log.filter((line) => line.includes('Its largest key is'))).toEqual([
        expect.stringMatching(/Its largest key is huge\. .*chunks: 2/),
      ]);
      // The answer is that of the exception filters.
      expect(response.body).toEqual({ statusCode: 500, message: 'Internal server error' });
    });

    it('leaves the session as it was, and its cookie valid', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      await browser.post('/login', { as: 'alice' });
      const before = browser.cookie;
      const { id } = await site.look(before as string);
      for (const sent of [
        () => browser.post('/fill', { huge: 5000 }),
        () => browser.post('/flash', { key: 'notice', length: 5000 }),
        () => browser.post('/login', { as: 'bob', fill: 5000 }),
      ]) {
        const response = await sent();
        expect(response.status).toBe(500);
        expect(setCookies(response)).toEqual([]);
        expect(await site.look(before as string)).toEqual({ id, data: { userId: 'alice' } });
      }
      await browser.get('/set?a=1');
      expect((await browser.get('/look')).body.data).toEqual({ userId: 'alice', a: '1' });
    });

    it('a flash message by its name', async () => {
      const site = await start(adapter);
      await site.browser().post('/flash', { key: 'notice', length: 5000 });
      expect(site.log.join('\n')).toMatch(/Its largest key is flash\.notice\. /);
    });

    it('has a code, a key, a size and a limit', async () => {
      const store = new CookieStore();
      await start(adapter, { store });
      const now = Date.now();
      const fields = new Map([
        ['data:a', filler(10)],
        ['data:b', filler(4000)],
      ]);
      const error = (await store
        .create('0'.repeat(64), { createdAt: now, lastAccessedAt: now, expiresAt: now + 1, fields })
        .catch((problem: unknown) => problem)) as SessionTooLargeError;
      expect(error).toBeInstanceOf(SessionTooLargeError);
      expect(error).toMatchObject({ code: 'E_SESSION_TOO_LARGE', key: 'b' });
      expect(error.size).toBeGreaterThan(4010);
      expect(error.limit).toBeLessThan(3072);
    });
  });

  describe('in several cookies', () => {
    /** What takes one cookie, two, three. */
    const LENGTHS = [1_000, 5_000, 8_000];

    it.each([
      [2, 5_000],
      [3, 8_000],
    ])('up to %i a session comes back, from another process too', async (chunks, length) => {
      const clock = new Clock();
      const [one, two] = [
        await start(adapter, { clock, store: { chunks } }),
        await start(adapter, { clock, store: { chunks } }),
      ];
      const browser = one.browser();
      const response = await browser.post('/fill', { big: length, small: 3 });
      const names = ['session_id', 'session_id.1', 'session_id.2'].slice(0, chunks);
      expect(pairs(response).map(([name]) => name)).toEqual(names);
      for (const [name, value, line] of pairs(response)) {
        expect(name.length + value.length).toBeLessThanOrEqual(4096);
        expect(line).toContain('; HttpOnly; SameSite=Lax; Max-Age=86400');
      }
      expect(browser.cookies.get('session_id')).toMatch(new RegExp(`~${chunks}$`));
      expect((await two.look(headerOf(browser.cookies))).data).toEqual({ big: filler(length), small: 'xxx' });
      expect((await two.browserWith(browser.cookies).post('/login', { as: 'alice' })).status).toBe(200);
    });

    it.each([2, 3])('%i at most: more is refused to the byte', async (chunks) => {
      const site = await start(adapter, { store: { chunks }, options: { cookie: { secure: true } } });
      let [fits, not] = [0, 100_000];
      while (not - fits > 1) {
        const middle = Math.floor((fits + not) / 2);
        if ((await site.browser().post('/fill', { big: middle })).status === 200) fits = middle;
        else not = middle;
      }
      const all = pairs(await site.browser().post('/fill', { big: fits }));
      expect(all).toHaveLength(chunks);
      const lengths = all.map(([name, value]) => name.length + value.length);
      expect(Math.max(...lengths)).toBeLessThanOrEqual(4096);
      expect(lengths.at(-1)).toBeGreaterThan(4096 - 4);
      expect(not).toBeLessThan(chunks * 3072);
    });

    it.each([0, 4, 5, 1.5, -1, NaN, Infinity, '2', null])('chunks: %p stops the boot', (chunks) => {
      expect(() => new CookieStore({ chunks: chunks as number })).toThrow('CookieStore chunks');
    });

    it('one that has become shorter clears what is left over', async () => {
      const site = await start(adapter, { store: { chunks: 3 } });
      const browser = site.browser();
      for (let parts = 3; parts > 1; parts--) {
        await browser.post('/fill', { big: LENGTHS[parts - 1] });
        expect(browser.cookies.size).toBe(parts);
        const response = await browser.post('/fill', { big: LENGTHS[parts - 2] });
        const cleared = pairs(response).filter(([, value]) => value === '');
        expect(cleared.map(([name]) => name)).toEqual([`session_id.${parts - 1}`]);
        for (const [, , line] of cleared) expect(line).toMatch(/^session_id\.\d=;.*; Max-Age=0/);
        expect((await browser.get('/look')).body.data.big).toHaveLength(LENGTHS[parts - 2]);
      }
      await browser.post('/fill', { big: LENGTHS[2] });
      const response = await browser.post('/fill', { big: 1 });
      expect(pairs(response).map(([name, value]) => [name, value === ''])).toEqual([
        ['session_id', false],
        ['session_id.1', true],
        ['session_id.2', true],
      ]);
      expect([...browser.cookies.keys()]).toEqual(['session_id']);
    });

    it('a logout clears them all, and so does expiry', async () => {
      const site = await start(adapter, { store: { chunks: 3 } });
      const browser = site.browser();
      for (const end of [
        () => browser.post('/logout'),
        () => {
          site.clock.pass(86_400);
          return browser.get('/look');
        },
      ]) {
        await browser.post('/fill', { big: 8_000 });
        expect(browser.cookies.size).toBe(3);
        const lines = setCookies(await end());
        expect(lines).toHaveLength(3);
        for (const line of lines) expect(line).toMatch(/=;.*; Max-Age=0/);
        expect(browser.cookies.size).toBe(0);
      }
    });

    it('over HTTPS each has the prefix and the attributes', async () => {
      const site = await start(adapter, { store: { chunks: 2 }, options: { cookie: { secure: true } } });
      const browser = site.browser();
      const lines = setCookies(await browser.post('/fill', { big: 5_000 }));
      expect(lines.map((line) => line.replace(/=[^;]*/, ''))).toEqual([
        expect.stringMatching(/^__Host-session_id; Path=\/; HttpOnly; .*; Secure$/),
        expect.stringMatching(/^__Host-session_id\.1; Path=\/; HttpOnly; .*; Secure$/),
      ]);
      expect((await browser.get('/look')).body.data.big).toHaveLength(5_000);
      for (const line of setCookies(await browser.post('/logout'))) {
        expect(line).toMatch(/^__Host-.*=; Path=\/; .*Max-Age=0; Secure$/);
      }
    });

    it('one missing, twice, swapped, empty, cut off or of another session is no session', async () => {
      const site = await start(adapter, { store: { chunks: 3 } });
      const [browser, foreign] = [site.browser(), site.browser()];
      await browser.post('/fill', { big: 8_000 });
      await foreign.post('/fill', { big: 8_000 });
      const [first, second, third] = [...browser.cookies.values()];
      const part = (index: number) => foreign.cookies.get(`session_id.${index}`) as string;
      const header = (a: string, b: string, c: string) =>
        `session_id=${a}; session_id.1=${b}; session_id.2=${c}`;
      expect((await site.look(header(first, second, third))).data.big).toHaveLength(8_000);
      for (const broken of [
        `session_id=${first}`,
        `session_id=${first}; session_id.1=${second}`,
        `session_id=${first}; session_id.2=${third}`,
        `session_id.1=${second}; session_id.2=${third}`,
        header(first, third, second),
        header(first, second, second),
        header(first, '', third),
        header(first, second, ''),
        header(first, second.slice(1), third),
        header(first, second, third.slice(0, -1)),
        header(first, second, `${third}A`),
        header(first, part(1), third),
        header(first, second, part(2)),
        header(first, part(1), part(2)),
        header(first.replace('~3', ''), second, third),
        header(first.replace('~3', '~2'), second, third),
        header(first.replace('~3', '~4'), second, third),
        header(first.replace('~3', '~1'), second, third),
        header(first.replace('~3', '~03'), second, third),
        header(first.replace('~3', '~3~3'), second, third),
        `${header(first, second, third)}; session_id.1=${second}`,
        `${header(first, second, third)}; session_id.2=${part(2)}`,
        `${header(first, second, third)}; session_id=${first}`,
      ]) {
        const { status, body } = await request(site.url).get('/look').set('Cookie', broken);
        expect([status, body]).toEqual([200, ANONYMOUS]);
      }
    });

    it('is no matter of the order in which they are sent, nor of others beside them', async () => {
      const site = await start(adapter, { store: { chunks: 3 } });
      const browser = site.browser();
      await browser.post('/fill', { big: 8_000 });
      const turned = new Map([...browser.cookies].reverse());
      turned.set('session_id.3', 'left over').set('session_id.x', 'of somebody else');
      expect((await site.look(headerOf(turned))).data.big).toHaveLength(8_000);
    });

    it('a session in several is read where there may be only one, and refused there if it grows', async () => {
      const clock = new Clock();
      const before = await start(adapter, { clock, store: { chunks: 2 } });
      const browser = before.browser();
      await browser.post('/fill', { big: 5_000 });
      const today = await start(adapter, { clock });
      const there = today.browserWith(browser.cookies);
      expect((await there.get('/look')).body.data.big).toHaveLength(5_000);
      expect((await there.get('/set?a=1')).status).toBe(500);
      await there.get('/delete?key=big');
      expect([...there.cookies.keys()]).toEqual(['session_id']);
    });

    it.each([
      [
        2,
        'let the session travel in several cookies (new CookieStore({ chunks: 3 })), or use a store on the server.',
      ],
      [3, 'put its id into the session, or use a store on the server.'],
    ])('%i: the error says whether there may be more', async (chunks, advice) => {
      const site = await start(adapter, { store: { chunks } });
      await site.browser().post('/fill', { big: 13_000 });
      expect(site.log.join('\n')).toContain(advice);
    });

    it('as full as may be can be sent to a server with the limits of Node, and other headers with them', async () => {
      const site = await start(adapter, { store: { chunks: 3 } });
      const cookie = await sessionCookie(site.app, { big: filler(8_900) } as never);
      expect(cookie.length).toBeGreaterThan(3 * 4_000);
      const sent = request(site.url).get('/look').set('Cookie', cookie).set('X-Other', filler(3_000));
      expect((await sent).status).toBe(200);
    });
  });

  it('the largest key is the one with the most bytes', async () => {
    const site = await start(adapter);
    await site.browser().post('/fill', { ascii: 2_000, euros: '€'.repeat(1_000) });
    expect(site.log.join('\n')).toContain('Its largest key is euros. ');
  });

  it('where there may be fewer cookies than before, reading and shrinking still work', async () => {
    const clock = new Clock();
    const before = await start(adapter, { clock, store: { chunks: 2 } });
    const browser = before.browser();
    await browser.post('/fill', { big: 5_000 });
    await browser.get('/set?small=1');
    const today = await start(adapter, { clock });
    const there = today.browserWith(browser.cookies);
    clock.pass(10_000);
    expect((await there.get('/look')).status).toBe(200);
    expect((await there.get('/delete?key=small')).status).toBe(200);
  });
});
