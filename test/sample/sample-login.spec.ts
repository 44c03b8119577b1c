import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { createServer } from 'node:net';
import type { INestApplication } from '@nestjs/common';
import { readSession, sessionCookie } from 'nest-session/testing';
import { AppModule } from '../../sample/login/app.module.js';
import { deviceName } from '../../sample/login/device-name.js';
import { html } from '../../sample/login/views/html.js';
import { adapters, Browser, createApp, setCookies } from '../support/app.js';
import { alice, CHROME, Sample, signedIn, submitted, tokenOn } from '../support/sample.js';

const FIREFOX = 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0';

/** The devices on the page, one text each, and the ids by which they are signed out. */
async function devicesOf(browser: Browser): Promise<{ texts: string[]; ids: string[] }> {
  const { status, text } = await browser.get('/devices').set('User-Agent', CHROME);
  expect(status).toBe(200);
  return {
    texts: text.split('<li>').slice(1),
    ids: [...text.matchAll(/action="\/devices\/([0-9a-f]{64})\/revoke"/g)].map(([, id]) => id),
  };
}

describe.each(adapters.map((adapter) => [adapter]))('The login sample on %s', (adapter) => {
  const flags = adapter === 'fastify' ? ['--fastify'] : [];
  let sample: Sample;
  let url: string;
  let browser: Browser;

  beforeAll(async () => {
    sample = Sample.start(0, flags);
    url = await sample.address();
  }, 30_000);
  afterAll(() => sample?.stop());
  beforeEach(() => (browser = new Browser(url)));

  const submit = (path: string, form: object = {}) => submitted(browser, path, form);

  /** Asks for the target as it is, which clients that take a URL would tidy up first. */
  async function exactly(target: string): Promise<void> {
    const sent = request(url, { path: target, headers: { cookie: browser.cookie } }).end();
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    response.resume();
    await once(response, 'end');
  }

  async function signIn() {
    const response = await submit('/login', alice);
    expect(response.status).toBe(303);
    return response;
  }

  it('runs on the adapter that was asked for and says where, and as whom to sign in', async () => {
    const { headers } = await browser.get('/');
    expect(headers['x-powered-by']).toBe(adapter === 'express' ? 'Express' : undefined);
    expect(sample.output).toContain(`Open ${url} and sign in as alice with the password wonderland.`);
    expect(sample.output).toContain('SESSION_SECRET is not set');
    expect(sample.output.trim().split('\n')).toHaveLength(2);
  });

  it('says who is signed in, or that nobody is, and begins no session for looking', async () => {
    const visitor = await browser.get('/');
    expect(visitor.status).toBe(200);
    expect(visitor.type).toBe('text/html');
    expect(visitor.text).toContain('Nobody is signed in');
    expect(setCookies(visitor)).toEqual([expect.stringMatching(/^session_id_visitor=/)]);
    expect(setCookies(await browser.get('/'))).toEqual([]);

    await signIn();
    const { text } = await browser.get('/');
    expect(text).toContain('You are signed in as <strong>alice</strong>');
    expect(text).not.toContain('Nobody');
  });

  it('serves its stylesheet without a session', async () => {
    await signIn();
    const { status, type, text, headers } = await browser.get('/style.css');
    expect({ status, type }).toEqual({ status: 200, type: 'text/css' });
    expect(text).toContain("[data-theme='dark']");
    expect(headers.vary).toBeUndefined();
  });

  it('has a form that people and password managers can fill in', async () => {
    const { status, text } = await browser.get('/login');
    expect(status).toBe(200);
    expect(text).toMatch(/<label for="username">/);
    expect(text).toMatch(/<input[^>]+name="username"[^>]+autocomplete="username"/);
    expect(text).toMatch(
      /<input[^>]+name="password"[^>]+type="password"[^>]+autocomplete="current-password"/,
    );
  });

  it('has a token in every form', async () => {
    const forms = async (path: string) => (await browser.get(path)).text.split('<form').slice(1);
    const [asVisitor, login] = [await forms('/'), await forms('/login')];
    await signIn();
    await submit('/devices/revoke-others');
    await signedIn(url);
    const pages = [asVisitor, login, await forms('/'), await forms('/dashboard'), await forms('/devices')];
    expect(pages.map((page) => page.length)).toEqual([1, 1, 2, 2, 3]);
    for (const form of pages.flat()) {
      expect(form).toMatch(/^ [^>]*method="post"/);
      expect(form).toMatch(/<input type="hidden" name="_csrf" value="[\w-]{64}" \/>/);
    }
  });

  describe.each([
    ['without a token', undefined],
    ['with a token that is none', 'x'.repeat(64)],
  ])('a form %s', (_, _csrf) => {
    const post = (path: string, form: object = {}) =>
      browser
        .post(path)
        .type('form')
        .send({ _csrf, ...form });

    it('does not log in', async () => {
      await browser.get('/login');
      const response = await post('/login', alice);
      expect(response.status).toBe(403);
      expect(setCookies(response)).toEqual([]);
      expect((await browser.get('/dashboard')).headers.location).toBe('/login');
    });

    it('does not log out', async () => {
      await signIn();
      const response = await post('/logout');
      expect(response.status).toBe(403);
      expect(setCookies(response)).toEqual([]);
      expect((await browser.get('/dashboard')).status).toBe(200);
    });

    it('does not change the theme, of a user or of a visitor', async () => {
      for (const enter of [() => browser.get('/'), signIn]) {
        await enter();
        const response = await post('/preferences', { theme: 'dark' });
        expect(response.status).toBe(403);
        expect(setCookies(response)).toEqual([]);
        expect((await browser.get('/')).text).toContain('data-theme="light"');
      }
    });
  });

  it('refuses the token of another browser, and the one from before the login', async () => {
    const before = await tokenOn(browser, '/');
    await signIn();
    const own = browser;
    browser = new Browser(url);
    const foreign = await tokenOn(browser, '/');
    browser = own;
    for (const _csrf of [before, foreign]) {
      expect((await submit('/preferences', { theme: 'dark', _csrf })).status).toBe(403);
      expect((await submit('/logout', { _csrf })).status).toBe(403);
    }
    expect((await browser.get('/dashboard')).text).toContain('data-theme="light"');
  });

  it('shows the dashboard after login, and the greeting once', async () => {
    expect((await signIn()).headers.location).toBe('/dashboard');
    const first = await browser.get('/dashboard');
    expect(first.status).toBe(200);
    expect(first.headers['cache-control']).toBe('no-store');
    expect(first.text).toContain('Hello, Alice');
    expect(first.text).toContain('Welcome back!');
    expect((await browser.get('/dashboard')).text).not.toContain('Welcome back!');
  });

  it('sends a visitor to the login page, and from there to the page that was asked for', async () => {
    const turnedAway = await browser.get('/dashboard?x=1&y=%2F');
    expect(turnedAway.status).toBe(302);
    expect(turnedAway.headers.location).toBe('/login');
    expect(turnedAway.text).not.toContain('Hello');
    expect((await browser.get('/login')).text).toContain('Please login to continue');

    expect((await submit('/login', { ...alice, password: 'wrong' })).headers.location).toBe('/login');
    expect((await signIn()).headers.location).toBe('/dashboard?x=1&y=%2F');
    expect((await signIn()).headers.location).toBe('/dashboard');
  });

  it.each([
    '//evil.example',
    '//evil.example/dashboard',
    '//dashboard',
    '/\\evil.example',
    '/%5Cevil.example',
    'http://evil.example/dashboard',
    '/dashboard?next=//evil.example',
  ])('stays on this site after login when %s was asked for first', async (target) => {
    await browser.get('/dashboard');
    await exactly(target);
    const { location } = (await signIn()).headers;
    expect(location).toMatch(/^\/dashboard($|\?)/);
    expect(new URL(location, url).origin).toBe(url);
  });

  it('shows once that the credentials are wrong, alike for a wrong name', async () => {
    for (const wrong of [
      { ...alice, password: 'Wonderland' },
      { ...alice, username: 'bob' },
      { username: '__proto__', password: '' },
    ]) {
      const response = await submit('/login', wrong);
      expect(response.status).toBe(303);
      expect(response.headers.location).toBe('/login');
      expect((await browser.get('/login')).text).toContain('Invalid credentials');
      expect((await browser.get('/login')).text).not.toContain('Invalid credentials');
    }
    expect((await browser.get('/dashboard')).headers.location).toBe('/login');
  });

  it('gives the session a new id at login; the one from before is worth nothing', async () => {
    await submit('/preferences', { theme: 'dark' });
    const before = browser.copy();
    await signIn();
    expect(browser.cookie).not.toBe(before.cookie);
    expect((await before.get('/dashboard')).headers.location).toBe('/login');
    expect((await browser.get('/dashboard')).status).toBe(200);
  });

  it('ends the session at logout, for those who kept its cookie as well', async () => {
    await signIn();
    await submit('/preferences', { theme: 'dark' });
    const thief = browser.copy();
    expect((await thief.get('/dashboard')).status).toBe(200);

    const response = await submit('/logout');
    expect(response.status).toBe(303);
    expect(response.headers.location).toBe('/');
    const home = await browser.get('/');
    expect(home.text).toContain('You are signed out.');
    expect(home.text).toContain('Nobody is signed in');
    expect(home.text).toContain('data-theme="light"');
    expect((await browser.get('/')).text).not.toContain('You are signed out.');

    expect((await browser.get('/dashboard')).headers.location).toBe('/login');
    expect((await thief.get('/dashboard')).headers.location).toBe('/login');
    expect((await thief.get('/api/me')).status).toBe(401);
    expect((await thief.get('/')).text).toContain('data-theme="light"');
  });

  it('lets a visitor sign out as well', async () => {
    const response = await submit('/logout');
    expect(response.headers.location).toBe('/');
    expect((await browser.get('/')).text).toContain('You are signed out.');
  });

  it('keeps the theme that a visitor chose across the login', async () => {
    expect((await browser.get('/')).text).toContain('data-theme="light"');
    const asVisitor = await submit('/preferences', { theme: 'dark' });
    expect(asVisitor.status).toBe(303);
    expect(asVisitor.headers.location).toBe('/');
    expect((await browser.get('/login')).text).toContain('data-theme="dark"');

    await signIn();
    const dashboard = await browser.get('/dashboard');
    expect(dashboard.text).toContain('data-theme="dark"');
    expect(dashboard.text).toContain('Theme: dark');
    const asUser = await submit('/preferences', { theme: 'light' });
    expect(asUser.status).toBe(303);
    expect(asUser.headers.location).toBe('/dashboard');
    expect((await browser.get('/dashboard')).text).toContain('data-theme="light"');
  });

  it.each([{}, { theme: '' }, { theme: 'Dark' }, { theme: '"><script>' }, { theme: ['dark', 'light'] }])(
    'refuses the preferences %j',
    async (form) => {
      const response = await submit('/preferences', form);
      expect(response.status).toBe(400);
      expect(setCookies(response)).toEqual([]);
    },
  );

  it.each(['application/json', 'text/html', '*/*', 'text/html, application/json'])(
    'answers JSON about the user when %s is accepted',
    async (accept) => {
      const visitor = await browser.get('/api/me').set('Accept', accept);
      expect(visitor.status).toBe(401);
      expect(visitor.type).toBe('application/json');
      expect(visitor.headers.location).toBeUndefined();
      expect(setCookies(visitor)).toEqual([]);

      await signIn();
      const user = await browser.get('/api/me').set('Accept', accept);
      expect(user.status).toBe(200);
      expect(user.type).toBe('application/json');
      expect(user.body).toEqual({ userId: 'alice', name: 'Alice' });
    },
  );

  describe('the devices', () => {
    let other: Browser;
    beforeEach(async () => {
      browser = await signedIn(url);
      await submit('/devices/revoke-others');
      await browser.get('/devices');
      other = await signedIn(url, FIREFOX);
    });
    const turnedAway = async (visitor: Browser) =>
      (await visitor.get('/dashboard')).headers.location === '/login';

    it('are those where the user is signed in, this one first and marked', async () => {
      const { texts, ids } = await devicesOf(browser);
      expect(texts.map((text) => /<span title="([^"]*)">([^<]*)/.exec(text)?.slice(1))).toEqual([
        [CHROME, 'Chrome on Windows'],
        [FIREFOX, 'Firefox on Linux'],
      ]);
      expect(texts.map((text) => text.includes('This device'))).toEqual([true, false]);
      for (const text of texts) expect(text).toContain('<dd>127.0.0.1</dd>');
      expect(ids).toHaveLength(2);
      expect((await browser.get('/devices')).headers['cache-control']).toBe('no-store');

      // The same two, seen from the other.
      const seen = await devicesOf(other);
      expect(seen.ids).toEqual([...ids].reverse());
      expect(seen.texts.map((text) => text.includes('This device'))).toEqual([true, false]);
      for (const page of ['/', '/dashboard'])
        expect((await browser.get(page)).text).toContain('href="/devices"');
    });

    it('are shown the last used first', async () => {
      const [otherId] = (await devicesOf(other)).ids;
      const latest = await signedIn(url);
      const [latestId] = (await devicesOf(latest)).ids;
      expect((await devicesOf(browser)).ids.slice(1)).toEqual([latestId, otherId]);
    });

    it('say no more of a hostile User-Agent than what it is', async () => {
      const hostile = await signedIn(url, `Firefox/1 "><script>alert('&')</script>`);
      const { text } = await browser.get('/devices');
      expect(text).toContain(
        'title="Firefox/1 &quot;&gt;&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;"',
      );
      expect(text).not.toContain('<script>');
      expect(await turnedAway(hostile)).toBe(false);
    });

    it('can be signed out one by one', async () => {
      const [, id] = (await devicesOf(browser)).ids;
      const third = await signedIn(url);
      const response = await submit(`/devices/${id}/revoke`);
      expect(response.status).toBe(303);
      expect(response.headers.location).toBe('/devices');
      expect(await turnedAway(other)).toBe(true);
      expect(await turnedAway(third)).toBe(false);

      const { text } = await browser.get('/devices');
      expect(text).toContain('<p class="message" role="status">Firefox on Linux is signed out.</p>');
      expect(text).not.toContain(id);
      expect((await browser.get('/devices')).text).not.toContain('is signed out.');
      expect((await submit(`/devices/${id}/revoke`)).status).toBe(404);
    });

    it('can be signed out all but this one', async () => {
      const third = await signedIn(url);
      const response = await submit('/devices/revoke-others');
      expect(response.status).toBe(303);
      expect(response.headers.location).toBe('/devices');
      expect([await turnedAway(other), await turnedAway(third)]).toEqual([true, true]);
      const { text } = await browser.get('/devices');
      expect(text).toContain('Other devices signed out: 2.');
      expect(text).toContain('You are signed in nowhere else.');
      expect(text).not.toContain('revoke-others');
      expect((await devicesOf(browser)).ids).toHaveLength(1);
    });

    it('sign out this one as its own button would', async () => {
      const [id] = (await devicesOf(browser)).ids;
      const thief = browser.copy();
      const response = await submit(`/devices/${id}/revoke`);
      expect(response.status).toBe(303);
      expect(response.headers.location).toBe('/');
      expect((await browser.get('/')).text).toContain('You are signed out.');
      expect([await turnedAway(browser), await turnedAway(thief)]).toEqual([true, true]);
      expect(await turnedAway(other)).toBe(false);
    });

    it.each([undefined, 'x'.repeat(64)])(
      'stay signed in after a form with the token %s, which does not say whether anybody is',
      async (_csrf) => {
        const [id, otherId] = (await devicesOf(browser)).ids;
        const visitor = new Browser(url);
        await visitor.get('/');
        for (const path of ['revoke-others', `${id}/revoke`, `${otherId}/revoke`]) {
          const [asUser, asVisitor] = await Promise.all(
            [browser, visitor].map((who) => who.post(`/devices/${path}`).type('form').send({ _csrf })),
          );
          expect(asUser.status).toBe(403);
          expect(setCookies(asUser)).toEqual([]);
          expect([asVisitor.status, asVisitor.text]).toEqual([asUser.status, asUser.text]);
        }
        expect([await turnedAway(browser), await turnedAway(other)]).toEqual([false, false]);
      },
    );

    it('are nothing to those who are not signed in', async () => {
      const [id] = (await devicesOf(browser)).ids;
      const visitor = new Browser(url);
      const page = await visitor.get('/devices');
      expect([page.status, page.headers.location]).toEqual([302, '/login']);
      for (const path of ['/devices/revoke-others', `/devices/${id}/revoke`]) {
        const response = await submitted(visitor, path);
        expect([response.status, response.headers.location]).toEqual([303, '/login']);
      }
      expect([await turnedAway(browser), await turnedAway(other)]).toEqual([false, false]);
    });
  });

  describe('on a store that cannot list', () => {
    let inCookies: Sample;
    let address: string;
    beforeAll(async () => {
      inCookies = Sample.start(0, flags, { SESSION_DRIVER: 'cookie' });
      address = await inCookies.address();
    }, 30_000);
    afterAll(() => inCookies?.stop());

    it('shows this device, says why no other, and signs it out', async () => {
      browser = await signedIn(address);
      const { text } = await browser.get('/devices').set('User-Agent', CHROME);
      expect(text).toContain('Only this device is shown: the session store in use cannot list the others.');
      expect(text).toContain('Chrome on Windows');
      expect(text).toContain('<dd>127.0.0.1</dd>');
      expect(text).not.toContain('revoke-others');

      for (const path of ['revoke-others', `${'0'.repeat(64)}/revoke`])
        expect((await submit(`/devices/${path}`)).status).toBe(404);
      const { ids } = await devicesOf(browser);
      expect(ids).toHaveLength(1);
      expect((await submit(`/devices/${ids[0]}/revoke`)).headers.location).toBe('/');
      expect((await browser.get('/dashboard')).headers.location).toBe('/login');
      expect(inCookies.output).not.toContain('ERROR');
    });
  });

  const form = 'application/x-www-form-urlencoded';
  const bodies: [type: string | undefined, body: string][] = [
    [undefined, ''],
    [form, ''],
    [form, 'username'],
    [form, 'username=alice&username=bob&password=a&password=b'],
    [form, 'username[]=alice&password[x]=wonderland&theme[]=dark'],
    [form, '__proto__[username]=alice&constructor=x'],
    [form, '%zz=%&username=%00&password=%ff'],
    [form, `username=${'a'.repeat(200_000)}`],
    ['application/json', '{"username":{"$ne":1},"password":["wonderland"],"theme":{"dark":1}}'],
    ['application/json', '["alice","wonderland"]'],
    ['application/json', 'null'],
    ['application/json', '"alice"'],
    ['application/json', '0'],
    ['application/json', '{'],
    ['text/plain', 'username=alice'],
    ['application/xml', '<username/>'],
    ['multipart/form-data; boundary=x', '--x\r\n\r\nalice\r\n--x--'],
  ];
  it.each(bodies.map(([type, body]) => ({ type, body, start: /^.{0,60}/.exec(body)?.[0] })))(
    'takes the body $start of type $type without failing',
    async ({ type, body }) => {
      const token = await tokenOn(browser, '/login');
      const cookie = [...browser.cookies].map((pair) => pair.join('=')).join('; ');
      async function send(path: string, headers: Record<string, string>) {
        const response = await fetch(url + path, {
          method: 'POST',
          headers: { ...headers, ...(type && { 'Content-Type': type }) },
          body: body || undefined,
          redirect: 'manual',
        });
        await response.body?.cancel();
        expect(response.headers.get('location') ?? '/').not.toBe('/dashboard');
        return response.status;
      }
      for (const path of ['/login', '/preferences', '/logout']) {
        expect([403, 400, 413, 415]).toContain(await send(path, {}));
        expect([303, 400, 413, 415]).toContain(await send(path, { 'X-CSRF-Token': token, Cookie: cookie }));
      }
      expect((await browser.get('/')).status).toBe(200);
    },
  );

  it('says so when the port is in use, and how to choose another', async () => {
    const second = Sample.start(Number(new URL(url).port), flags);
    const [code] = await once(second.process, 'close');
    expect(code).toBe(1);
    expect(second.output).toMatch(/Port \d+ is in use\. Choose another: PORT=3001 npm start/);
    expect(second.output).not.toContain('Open http');
  }, 30_000);

  // The last, since it ends the sample. A browser that keeps its connection open does not hold it up.
  it('ends when it is told to', async () => {
    await (await fetch(url)).text();
    expect(await sample.stop()).toEqual([null, 'SIGTERM']);
    const { port } = new URL(url);
    const free = createServer().listen(Number(port), '0.0.0.0');
    await once(free, 'listening');
    free.close();
  }, 10_000);
});

describe.each(adapters.map((adapter) => [adapter]))('Somebody else on %s', (adapter) => {
  let app: INestApplication;
  let url: string;
  beforeAll(async () => {
    app = await createApp(adapter, AppModule);
    await app.listen(0, '127.0.0.1');
    url = await app.getUrl();
  });
  afterAll(() => app?.close());

  it('cannot sign a device out, nor tell its id from one that there is not', async () => {
    const bob = await sessionCookie(app, { userId: 'bob' });
    const { id = '' } = (await readSession(app, bob)) ?? {};
    const browser = await signedIn(url);
    expect((await devicesOf(browser)).ids).toHaveLength(1);

    const answers = [];
    for (const path of [id, '0'.repeat(64), 'x', '__proto__', '%00', id.toUpperCase()]) {
      const { status, text, headers } = await submitted(browser, `/devices/${path}/revoke`);
      answers.push({ status, text, cookies: setCookies({ headers }) });
    }
    expect(answers[0].status).toBe(404);
    for (const answer of answers) expect(answer).toEqual(answers[0]);
    await submitted(browser, '/devices/revoke-others');
    expect((await readSession(app, bob))?.userId).toBe('bob');
  });
});

it.each([
  [CHROME, 'Chrome on Windows'],
  [FIREFOX, 'Firefox on Linux'],
  [`${CHROME} Edg/142.0.0.0`, 'Edge on Windows'],
  [`${CHROME} OPR/124.0.0.0`, 'Opera on Windows'],
  [CHROME.replace('Windows NT 10.0; Win64; x64', 'X11; CrOS x86_64 16328.0.0'), 'Chrome on ChromeOS'],
  [CHROME.replace('Windows NT 10.0; Win64; x64', 'Linux; Android 16; Pixel 10'), 'Chrome on Android'],
  [
    'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15',
    'Safari on macOS',
  ],
  [
    'Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/142.0 Mobile/15E148 Safari/604.1',
    'Chrome on iOS',
  ],
  [
    'Mozilla/5.0 (Linux; Android 16; SM-S931B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/29.0 Chrome/136.0.0.0 Mobile Safari/537.36',
    'Samsung Internet on Android',
  ],
  ['curl/8.14.1', 'Unknown browser'],
  ['', 'Unknown browser'],
  [undefined, 'Unknown browser'],
])('calls %s by the name people know', (userAgent, name) => {
  expect(deviceName(userAgent)).toBe(name);
});

it('escapes what a page shows, wherever it stands in the markup', () => {
  const hostile = `"><script>alert('&')</script>`;
  const escaped = '&quot;&gt;&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;';
  expect(html`<p title="${hostile}">${hostile}</p>`.toString()).toBe(`<p title="${escaped}">${escaped}</p>`);
  const nested = html`<b>${'<'}</b>`;
  expect(html`<p>${nested}</p>`.toString()).toBe('<p><b>&lt;</b></p>');
  expect(html`<p>${[nested, '>', undefined]}</p>`.toString()).toBe('<p><b>&lt;</b>&gt;</p>');
  expect(html`${undefined}${null}${0}${false}${['<']}`.toString()).toBe('0false&lt;');
  expect(html`${{ markup: '<b>', toString: () => '<i>' }}`.toString()).toBe('&lt;i&gt;');
});
