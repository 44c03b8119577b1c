import {
  Body,
  Controller,
  Get,
  HttpCode,
  type INestApplication,
  Module,
  Post,
  type Provider,
  Query,
  Redirect,
  Res,
  StreamableFile,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { WsAdapter } from '@nestjs/platform-ws';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import {
  CookieStore,
  type CookieStoreOptions,
  CsrfGuard,
  CsrfToken,
  FileStore,
  Flash,
  MemoryStore,
  Session,
  type SessionEvent,
  SessionInterceptor,
  SessionManager,
  SessionModule,
  type SessionModuleOptions,
  type SessionStore,
  SessionTooLargeError,
} from 'nest-session';
import { readSession, sessionCookie } from 'nest-session/testing';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import request from 'supertest';
import { KeyRing } from '../../../lib/crypto/key-ring.js';
import { Sealer } from '../../../lib/crypto/sealer.js';
import { resolveOptions } from '../../../lib/options/resolved-options.js';
import { TravelInUse } from '../../../lib/session/travel-in-use.js';
import { encodeRecord } from '../../../lib/stores/cookie/sealed-record.js';
import {
  type Adapter,
  Browser,
  Clock,
  createApp,
  onBothAdapters,
  SECRET,
  sessionCookies,
  setCookies,
} from '../../support/app.js';
import { HeldStore } from '../../support/held-store.js';
import { connect } from '../../support/sockets.js';
import { removeTemporary, temporaryFolder } from '../../support/temporary.js';

/** Places where handlers wait for the test. */
class Gates {
  readonly #gates = new Map<string, { arrive: () => void; open: Promise<void> }>();

  hold(name: string): { readonly reached: Promise<void>; release(): void } {
    let arrive = (): void => {};
    let release = (): void => {};
    const reached = new Promise<void>((resolve) => (arrive = resolve));
    const open = new Promise<void>((resolve) => (release = resolve));
    this.#gates.set(name, { arrive, open });
    return { reached, release };
  }

  async pass(name: string | undefined): Promise<void> {
    const gate = this.#gates.get(name ?? '');
    gate?.arrive();
    await gate?.open;
  }
}

const gates = new Gates();

@Controller()
class PageController {
  @Get('plain')
  plain() {
    return 'nothing to do with sessions';
  }

  @Get('look')
  look(@Session() session: Session<any>) {
    return { data: session.data, id: session.isNew ? null : session.id };
  }

  @Get('times')
  times(@Session() session: Session<any>) {
    return { created: session.createdAt, used: session.lastAccessedAt, expires: session.expiresAt };
  }

  @Get('set')
  async set(@Session() session: Session<any>, @Query() { gate, ...values }: Record<string, string>) {
    await gates.pass(gate);
    session.update(values);
    return {};
  }

  @Get('save')
  async save(@Session() session: Session<any>, @Query() { gate, ...values }: Record<string, string>) {
    session.update(values);
    await session.save();
    await gates.pass(gate);
    return {};
  }

  @Get('read')
  async read(@Session() session: Session<any>, @Query('gate') gate: string) {
    await gates.pass(gate);
    return session.data;
  }

  @Get('delete')
  delete(@Session() session: Session<any>, @Query('key') key: string) {
    session.delete(key);
  }

  @Post('fill')
  @HttpCode(200)
  fill(@Session() session: Session<any>, @Body() values: object) {
    for (const [key, value] of Object.entries(values)) {
      session.set(key, typeof value === 'number' ? 'x'.repeat(value) : value);
    }
  }

  @Post('flash')
  @HttpCode(200)
  flash(@Session() session: Session<any>, @Body() { key, length }: { key: string; length: number }) {
    session.flash.set(key, 'x'.repeat(length));
  }

  @Get('notice')
  notice(@Flash('notice') notice?: string) {
    return { notice };
  }

  @Post('login')
  @HttpCode(200)
  async login(@Session() session: Session<any>, @Body() { as, gate, fill, ...after }: Record<string, any>) {
    await session.login(as ?? 'alice', fill === undefined ? {} : { fill: 'x'.repeat(fill) });
    await gates.pass(gate);
    if (Object.keys(after).length > 0) session.update(after);
    return {};
  }

  @Post('logout')
  @HttpCode(200)
  async logout(@Session() session: Session<any>) {
    await session.logout();
  }

  @Post('regenerate')
  @HttpCode(200)
  async regenerate(@Session() session: Session<any>) {
    await session.regenerate();
  }

  @Get('form')
  form(@CsrfToken() token: string) {
    return { token };
  }

  @Post('guarded')
  @HttpCode(200)
  @UseGuards(CsrfGuard)
  guarded(@Session() session: Session<any>) {
    return { writes: session.increment('writes') };
  }

  @Post('guarded-login')
  @HttpCode(200)
  @UseGuards(CsrfGuard)
  async guardedLogin(@Session() session: Session<any>) {
    await session.login('alice');
  }

  @Get('by-hand')
  byHand(
    @Session() session: Session<any>,
    @Res() response: { raw?: ServerResponse } & ServerResponse,
    @Query('value') value: string,
  ) {
    session.set('byHand', value);
    (response.raw ?? response).end('by hand');
  }

  @Get('stream')
  stream(@Session() session: Session<any>, @Query('value') value: string) {
    session.set('stream', value);
    return new StreamableFile(Buffer.from('streamed'));
  }

  @Get('redirect')
  @Redirect('/look')
  redirect(@Session() session: Session<any>, @Query('value') value: string) {
    session.set('redirect', value);
  }

  @Get('late')
  async late(
    @Session() session: Session<any>,
    @Res() response: { raw?: ServerResponse } & ServerResponse,
    @Query('what') what: string,
  ) {
    const raw = response.raw ?? response;
    raw.write('begun ');
    try {
      if (what === 'logout') await session.logout();
      else await session.set('late', '1').save();
      raw.end('done');
    } catch (error) {
      raw.end(String(error));
    }
  }
}

interface Setup {
  /** Of the store; or another store altogether. */
  store?: CookieStoreOptions | SessionStore;
  options?: Partial<SessionModuleOptions>;
  clock?: Clock;
  providers?: Provider[];
  trustProxy?: boolean;
  prepare?: (app: INestApplication) => unknown;
}

/** An application whose sessions are in cookies: `serve()` would hide that behind a store of its own. */
class Site {
  readonly events: SessionEvent[] = [];

  constructor(
    readonly app: INestApplication,
    readonly url: string,
    readonly clock: Clock,
    readonly log: string[],
  ) {
    this.sessions.events.subscribe((event) => this.events.push(event));
  }

  get sessions(): SessionManager {
    return this.app.get(SessionManager);
  }

  browser(): Browser {
    return new Browser(this.url);
  }

  /** A browser that has the cookies of another, of any application. */
  browserWith(cookies: Map<string, string>): Browser {
    const browser = this.browser();
    for (const [name, value] of cookies) browser.cookies.set(name, value);
    return browser;
  }

  /** What a request with this Cookie header sees. */
  async look(cookie: string): Promise<{ data: Record<string, unknown>; id: string | null }> {
    const response = await request(this.url).get('/look').set('Cookie', cookie);
    if (response.status !== 200) throw new Error(`answered with ${response.status}`);
    return response.body as never;
  }
}

const sites: Site[] = [];

async function start(adapter: Adapter, setup: Setup = {}): Promise<Site> {
  const clock = setup.clock ?? new Clock();
  const log: string[] = [];
  const store = isStore(setup.store) ? setup.store : new CookieStore(setup.store);

  @Module({
    imports: [SessionModule.forRoot({ secret: SECRET, clock: clock.read, ...setup.options, store })],
    controllers: [PageController],
    providers: setup.providers,
  })
  class Root {}

  const app = await createApp(adapter, Root, { log, trustProxy: setup.trustProxy });
  setup.prepare?.(app);
  await app.listen(0, '127.0.0.1');
  const { port } = app.getHttpServer().address() as AddressInfo;
  const site = new Site(app, `http://127.0.0.1:${port}`, clock, log);
  sites.push(site);
  return site;
}

function isStore(store: Setup['store']): store is SessionStore {
  return store !== undefined && 'load' in store;
}

afterEach(async () => {
  await Promise.all(sites.splice(0).map((site) => site.app.close()));
});

const ANONYMOUS = { data: {}, id: null };

const SECRETS = ['first', 'second'].map((word) => `the ${word} secret, of thirty-two bytes or more`);

/** What the application of {@link SECRET} would have sealed. */
function forge(
  text: string,
  { name = 'session_id', purpose = 'session', audience = '', secret = SECRET } = {},
): string {
  return new Sealer(new KeyRing([Buffer.from(secret)]), purpose as 'session', audience).seal(name, text);
}

let payloads = 0;

/** The text of another session each time, of somebody with `data`, which lives for a day. */
function payload(
  now: number,
  { data = {} as Record<string, unknown>, savedAt = now, createdAt = now, expiresAt = now + 86_400_000 } = {},
): string {
  const fields = new Map(Object.entries(data).map(([key, value]) => [`data:${key}`, JSON.stringify(value)]));
  const record = { createdAt, lastAccessedAt: createdAt, expiresAt, fields };
  return encodeRecord({ secret: `secret number ${++payloads}`, savedAt, record });
}

/** A Cookie header. */
function headerOf(cookies: Map<string, string>): string {
  return [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
}

/** Name and value of each Set-Cookie line. */
function pairs(response: {
  headers: Record<string, unknown>;
}): [name: string, value: string, line: string][] {
  return setCookies(response).map((line) => {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(line) as RegExpExecArray;
    return [name, value, line];
  });
}

const filler = (length: number): string => 'x'.repeat(length);

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

  describe('no session, and no error, is in', () => {
    let site: Site;
    let value: string;
    let other: string;

    beforeEach(async () => {
      site = await start(adapter, { options: { maxAge: '1d' } });
      [value, other] = ['one', 'two'].map((word) =>
        forge(payload(site.clock.now, { data: { secret: `of ${word}` } })),
      );
    });

    /** Those cookies that a session is found in. In process: thousands of requests in the time of one. */
    async function accepted(values: Iterable<string>): Promise<string[]> {
      const found: string[] = [];
      for (const one of values) {
        const session = await site.sessions.open({ headers: { cookie: `session_id=${one}` } });
        if (!session.isNew) found.push(one);
      }
      return found;
    }

    const bytesOf = (one: string): Buffer => Buffer.from(one.split('.')[2], 'base64url');
    const withBytes = (bytes: Buffer): string =>
      [...value.split('.').slice(0, 2), bytes.toString('base64url')].join('.');

    it('the cookies that follow, but for the two that they are made from', async () => {
      expect(await accepted([value, other])).toEqual([value, other]);
      expect(await site.look(`session_id=${value}`)).toMatchObject({ data: { secret: 'of one' } });
    });

    it('a cookie with any bit flipped', async () => {
      const flipped = (bytes: Buffer): Buffer[] =>
        Array.from({ length: bytes.length * 8 }, (_, bit) => {
          const changed = Buffer.from(bytes);
          changed[bit >> 3] ^= 1 << (bit & 7);
          return changed;
        });
      expect(await accepted(flipped(Buffer.from(value)).map((bytes) => bytes.toString('latin1')))).toEqual(
        [],
      );
      expect(await accepted(flipped(bytesOf(value)).map(withBytes))).toEqual([]);
    });

    it('a cookie cut off anywhere, or longer', async () => {
      const cut = Array.from(value, (_, at) => at).flatMap((at) => [value.slice(0, at), value.slice(at + 1)]);
      const more = ['=', 'A', 'AAAA', '.', '~2', '~1', '~', '~5', '~02', '\u00e9', '%00', '"'];
      const longer = more.flatMap((one) => [value + one, one + value]);
      expect(await accepted([...cut, ...longer])).toEqual([]);
    });

    it('two cookies cut and joined: nonces swapped, ciphertexts spliced', async () => {
      const [one, two] = [bytesOf(value), bytesOf(other)];
      const spliced = [...one.keys()].map((cut) => Buffer.concat([one.subarray(0, cut), two.subarray(cut)]));
      // One in 256 times the two end, or begin, alike.
      const forged = spliced.filter((bytes) => !bytes.equals(one) && !bytes.equals(two));
      expect(await accepted(forged.map(withBytes))).toEqual([]);
    });

    it.each([0, 4, 8, 12, 15, 17, 32])('a tag of %i bytes', async (length) => {
      const bytes = bytesOf(value);
      const tag = Buffer.concat([bytes.subarray(-16), Buffer.alloc(16)]).subarray(0, length);
      const forged = withBytes(Buffer.concat([bytes.subarray(0, -16), tag]));
      expect(await site.look(`session_id=${forged}`)).toEqual(ANONYMOUS);
    });

    it('another key id or another version', async () => {
      const [, id, rest] = value.split('.');
      const unknown = new KeyRing([Buffer.alloc(32, 7)]).ids[0];
      for (const forged of [
        ...[
          '',
          unknown,
          '__proto__',
          'constructor',
          id.toLowerCase(),
          id.slice(1),
          `${id}A`,
          'A'.repeat(10_000),
        ].map((keyId) => `1.${keyId}.${rest}`),
        ...['', '0', '2', '01', '1 ', '-1', '+1', '10', 'v1'].map((version) => `${version}.${id}.${rest}`),
        `${id}.${rest}`,
        rest,
        `1.${rest}`,
        `1.${id}.`,
        `1..${rest}`,
        '1.',
        '1..',
        '1.~2',
      ]) {
        expect(await site.look(`session_id=${forged}`)).toEqual(ANONYMOUS);
      }
    });

    it('base64 of any other kind, or with spare bits set', async () => {
      const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
      for (const more of ['', 'x', 'xx']) {
        const whole = forge(payload(site.clock.now, { data: { a: `a${more}` } }));
        const [, id, rest] = whole.split('.');
        const spellings = [
          ...Array.from(alphabet, (last) => rest.slice(0, -1) + last),
          `${rest}=`,
          `${rest}==`,
          `${rest.slice(0, 20)} ${rest.slice(20)}`,
          `${rest}%3D`,
          Buffer.from(rest, 'base64url').toString('base64'),
        ];
        expect(await accepted(new Set(spellings.map((one) => `1.${id}.${one}`)))).toEqual([whole]);
      }
    });

    it('the cookie of another name', async () => {
      const text = payload(site.clock.now, { data: { secret: 'of one' } });
      for (const name of [
        '__Host-session_id',
        'Session_id',
        'session_id_visitor',
        'session_id.1',
        'sid',
        '',
      ]) {
        expect(await site.look(`session_id=${forge(text, { name })}`)).toEqual(ANONYMOUS);
      }
      // A plain request is not told what a Secure one is.
      expect(await site.look(`__Host-session_id=${forge(text, { name: '__Host-session_id' })}`)).toEqual(
        ANONYMOUS,
      );
    });

    it('the cookie of another application: of another audience or another secret', async () => {
      const text = payload(site.clock.now, { data: { secret: 'of one' } });
      for (const from of [{ audience: 'blog' }, { secret: SECRETS[0] }]) {
        expect(await site.look(`session_id=${forge(text, from)}`)).toEqual(ANONYMOUS);
      }
      const blog = await start(adapter, { store: { audience: 'blog' }, clock: site.clock });
      expect(await blog.look(`session_id=${value}`)).toEqual(ANONYMOUS);
      expect(await blog.look(`session_id=${forge(text, { audience: 'blog' })}`)).toMatchObject({
        data: { secret: 'of one' },
      });
    });

    it('what was sealed for another purpose', async () => {
      const text = payload(site.clock.now, { data: { secret: 'of one' } });
      for (const purpose of ['csrf-visitor', 'csrf', 'session-id']) {
        expect(await site.look(`session_id=${forge(text, { purpose })}`)).toEqual(ANONYMOUS);
      }
    });

    it("a visitor's CSRF cookie; nor is a session a CSRF cookie", async () => {
      const visitor = site.browser();
      const { token } = (await visitor.get('/form')).body as { token: string };
      const sealed = visitor.cookies.get('session_id_visitor') as string;
      expect(sealed).toMatch(/^1\./);
      expect(await site.look(`session_id=${sealed}`)).toEqual(ANONYMOUS);

      for (const forged of [value, forge(payload(site.clock.now), { name: 'session_id_visitor' })]) {
        const sent = request(site.url).post('/guarded').set('Cookie', `session_id_visitor=${forged}`);
        await sent.set('X-CSRF-Token', token).expect(403);
      }
    });

    it('a session by reference; nor is one by value anything to an application with a store', async () => {
      const byReference = await start(adapter, {
        store: new MemoryStore({ clock: site.clock.read }),
        clock: site.clock,
      });
      const [here, there] = [site.browser(), byReference.browser()];
      await here.get('/set?a=here');
      await there.get('/set?a=there');
      expect(await site.look(there.cookie as string)).toEqual(ANONYMOUS);
      expect(await byReference.look(here.cookie as string)).toEqual(ANONYMOUS);
      // And each begins anew with it.
      for (const [one, browser] of [
        [site, there],
        [byReference, here],
      ] as const) {
        const lost = one.browserWith(browser.cookies);
        await lost.get('/set?a=anew');
        expect(await one.look(lost.cookie as string)).toMatchObject({ data: { a: 'anew' } });
      }
    });

    it('two cookies of one name', async () => {
      expect(await site.look(`session_id=${value}; session_id=${value}`)).toEqual(ANONYMOUS);
      expect(await site.look(`session_id=${value}; session_id=${other}`)).toEqual(ANONYMOUS);
      expect(await site.look(`session_id=junk; session_id=${value}`)).toEqual(ANONYMOUS);
    });

    it.each([
      ['text', 'hello'],
      ['null', 'null\n'],
      ['a list', '[]\n'],
      ['an object', '{"v":1,"data":{"userId":"admin"}}'],
      ['no times', '[1,"s",null]\n'],
      ['times of 1e99', '[1,1e99,1e99,1e99,1e99,"s",null]\n'],
      ['negative times', '[1,-1,-1,-1,-1,"s",null]\n'],
      ['times that are text', '[1,"0","0","0","9999999999999","s",null]\n'],
      ['lengths that overrun', '[1,0,0,0,9999999999999,"s",null,"data:a",9]\n1'],
      ['ten thousand levels', `${'['.repeat(10_000)}\n`],
      ['__proto__', '{"__proto__":{"userId":"admin"}}\n'],
    ])('a payload that is well sealed and holds %s', async (_, sealed) => {
      expect(await site.look(`session_id=${forge(sealed)}`)).toEqual(ANONYMOUS);
      expect(({} as Record<string, unknown>).userId).toBeUndefined();
    });

    it('ten thousand cookies at random', async () => {
      const [, id] = value.split('.');
      const alphabet = 'ABCabc012-_.~%=; \u00e9';
      const random = (below: number): number => Math.floor(Math.random() * below);
      const candidates = Array.from({ length: 10_000 }, (_, round) => {
        const noise = Array.from({ length: random(120) }, () => alphabet[random(alphabet.length)]).join('');
        const bytes = Buffer.from(Array.from({ length: random(200) }, () => random(256))).toString(
          'base64url',
        );
        const cut = random(value.length - 10); // no noise makes up for ten characters
        return [
          noise,
          `1.${noise}`,
          `1.${id}.${noise}`,
          `1.${id}.${bytes}`,
          `1.${id}.${bytes}~${random(6)}`,
          `${value.slice(0, cut)}${noise}${value.slice(random(value.length))}`,
          `${value.slice(0, cut)}~${random(6)}; session_id.1=${noise}; session_id.2=${bytes}`,
        ][round % 7];
      });
      expect(await accepted(candidates.filter((candidate) => candidate !== value))).toEqual([]);
    });

    it('a cookie that was rejected, and the log and the events say no more of it than why', async () => {
      site.events.length = 0;
      const changed = `${value.slice(0, -4)}${value.endsWith('AAAA') ? 'BBBB' : 'AAAA'}`;
      await site.look(`session_id=${changed}`);
      await site.look(`session_id=${value}~2`);
      await site.look(`session_id=${value}; session_id=${value}`);
      expect(site.events).toEqual([
        { type: 'rejected', reason: 'signature' },
        { type: 'rejected', reason: 'malformed' },
        { type: 'rejected', reason: 'duplicate' },
      ]);
      expect(site.log.join()).not.toContain(value.slice(20, 60));
    });

    it('and such a cookie is neither deleted nor replaced by a mere look', async () => {
      for (const forged of ['junk', `${value}x`, forge(payload(site.clock.now), { audience: 'blog' })]) {
        const response = await request(site.url).get('/look').set('Cookie', `session_id=${forged}`);
        expect(setCookies(response)).toEqual([]);
      }
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
      const [oldId, newId] = [older, newer].map((secret) => new KeyRing([Buffer.from(secret)]).ids[0]);
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

  describe('parallel requests of one browser on one process', () => {
    let site: Site;
    let browser: Browser;

    beforeEach(async () => {
      site = await start(adapter);
      browser = site.browser();
      await browser.get('/set?first=1');
    });

    it.each([
      ['in the order in which they came', ['a', 'b']],
      ['in the other order', ['b', 'a']],
    ])('that answer %s: the last has what both wrote', async (_, order) => {
      const held = { a: gates.hold('a'), b: gates.hold('b') };
      const twins = { a: browser.copy(), b: browser.copy() };
      const answers = { a: twins.a.begin('/set?gate=a&a=1'), b: twins.b.begin('/set?gate=b&b=1') };
      await Promise.all([held.a.reached, held.b.reached]);
      for (const name of order as ('a' | 'b')[]) {
        held[name].release();
        await answers[name];
      }
      const last = twins[order[1] as 'a' | 'b'];
      const elsewhere = await start(adapter, { clock: site.clock });
      expect((await elsewhere.look(last.cookie as string)).data).toEqual({ first: '1', a: '1', b: '1' });
    });

    it('and a third that comes within ten seconds with the cookie from before', async () => {
      const before = browser.copy();
      const held = gates.hold('a');
      const answer = browser.begin('/set?gate=a&a=1');
      await held.reached;
      await browser.copy().get('/set?b=1');
      held.release();
      await answer;
      site.clock.now += 9_999;
      expect((await before.copy().get('/look')).body.data).toEqual({ first: '1', a: '1', b: '1' });
      await before.get('/set?c=1');
      const elsewhere = await start(adapter, { clock: site.clock });
      expect((await elsewhere.look(before.cookie as string)).data).toEqual({
        first: '1',
        a: '1',
        b: '1',
        c: '1',
      });
    });

    it('but not for one that comes later: a cookie is then what it says', async () => {
      const before = browser.copy();
      await browser.get('/set?a=1');
      site.clock.now += 10_000;
      expect((await before.get('/look')).body.data).toEqual({ first: '1' });
    });

    it('of which one deletes a key', async () => {
      const held = gates.hold('a');
      const slow = browser.copy();
      const answer = slow.begin('/set?gate=a&a=1');
      await held.reached;
      await browser.get('/delete?key=first');
      held.release();
      await answer;
      const elsewhere = await start(adapter, { clock: site.clock });
      expect((await elsewhere.look(slow.cookie as string)).data).toEqual({ a: '1' });
    });

    it.each([
      ['a second later', 1],
      ['in the same millisecond', 0],
    ])('a newer cookie, from another process, counts more than what is held: %s', async (_, seconds) => {
      const elsewhere = await start(adapter, { clock: site.clock });
      site.clock.pass(seconds);
      const there = elsewhere.browserWith(browser.cookies);
      await there.get('/set?b=1');
      expect((await site.look(there.cookie as string)).data).toEqual({ first: '1', b: '1' });
    });

    it('of two that log in at once, one gets the session, and the other a session of its own', async () => {
      const twins = [browser.copy(), browser.copy()];
      await Promise.all(twins.map((twin) => twin.post('/login', { as: 'alice' })));
      const seen = await Promise.all(twins.map((twin) => site.look(twin.cookie as string)));
      expect(seen.map(({ data }) => data.userId)).toEqual(['alice', 'alice']);
      expect(seen.filter(({ data }) => data.first === '1')).toHaveLength(1);
      expect(seen[0].id).not.toBe(seen[1].id);
    });
  });

  describe('a request under way', () => {
    let clock: Clock;
    let revocations: MemoryStore;
    let one: Site;
    let two: Site;
    let browser: Browser;

    beforeEach(async () => {
      clock = new Clock();
      revocations = new MemoryStore({ clock: clock.read });
      one = await start(adapter, { clock, store: { revocations } });
      two = await start(adapter, { clock, store: { revocations } });
      browser = one.browser();
      await browser.post('/login', { as: 'alice' });
    });

    it.each([
      ['the same process', false, 0],
      ['another process', true, 0],
      ['the same process, a minute later', false, 60],
      ['another process, a minute later', true, 60],
      ['the same process, an hour later', false, 3600],
    ])('during a logout in %s cannot bring the session back', async (_, elsewhere, seconds) => {
      const slow = browser.copy();
      const held = gates.hold('a');
      const answer = slow.begin('/set?gate=a&a=1');
      await held.reached;
      await (elsewhere ? two.browserWith(browser.cookies) : browser.copy()).post('/logout');
      clock.pass(seconds);
      held.release();
      expect(setCookies(await answer)).toEqual([]);
      for (const site of [one, two]) {
        for (const cookies of [slow.cookies, browser.cookies]) {
          expect(await site.look(headerOf(cookies))).toEqual(ANONYMOUS);
        }
      }
    });

    it('during a logout of the same process cannot bring it back without revocations either', async () => {
      const site = await start(adapter, { clock });
      const visitor = site.browser();
      await visitor.post('/login', { as: 'alice' });
      const slow = visitor.copy();
      const held = gates.hold('a');
      const answer = slow.begin('/set?gate=a&a=1');
      await held.reached;
      await visitor.post('/logout');
      clock.pass(60);
      held.release();
      expect(setCookies(await answer)).toEqual([]);
    });

    it('while the session gets a new id cannot bring the old one back', async () => {
      const slow = browser.copy();
      const held = gates.hold('a');
      const answer = slow.begin('/set?gate=a&a=1');
      await held.reached;
      await browser.post('/regenerate');
      held.release();
      expect(setCookies(await answer)).toEqual([]);
      expect((await browser.get('/look')).body.data).toEqual({ userId: 'alice' });
      expect((await slow.get('/look')).body).toEqual(ANONYMOUS);
    });

    it('that saves while the session gets a new id is carried over to it', async () => {
      const slow = new HeldStore(revocations, clock.read);
      const site = await start(adapter, { clock, store: { revocations: slow } });
      const visitor = site.browserWith(browser.cookies);
      const twin = visitor.copy();
      const revoking = slow.hold('create');
      const answer = Promise.resolve(visitor.post('/regenerate'));
      await revoking.reached;
      await twin.get('/set?a=1');
      revoking.release();
      await answer;
      expect((await two.look(visitor.cookie as string)).data).toEqual({ userId: 'alice', a: '1' });
    });

    it('that takes a minute still saves', async () => {
      const held = gates.hold('a');
      const answer = browser.begin('/set?gate=a&a=1');
      await held.reached;
      clock.pass(60);
      held.release();
      expect(sessionCookies(await answer)).toHaveLength(1);
      expect((await two.look(browser.cookie as string)).data).toEqual({ userId: 'alice', a: '1' });
    });

    it('that takes a minute after it has logged in still saves', async () => {
      const held = gates.hold('a');
      const answer = Promise.resolve(browser.post('/login', { as: 'bob', gate: 'a', then: 'what' }));
      await held.reached;
      clock.pass(60);
      held.release();
      expect(sessionCookies(await answer)).toHaveLength(1);
      expect((await two.look(browser.cookie as string)).data).toEqual({ userId: 'bob', then: 'what' });
    });

    it.each([
      ['a login', (visitor: Browser) => visitor.post('/login', { as: 'carol', gate: 'a', then: 'what' })],
      ['a save', (visitor: Browser) => visitor.get('/save?gate=a&userId=carol&then=what')],
    ])('that takes a minute after %s of a visitor still saves', async (_, send) => {
      const visitor = one.browser();
      const held = gates.hold('a');
      const answer = Promise.resolve(send(visitor));
      await held.reached;
      clock.pass(60);
      held.release();
      expect(sessionCookies(await answer)).toHaveLength(1);
      expect((await two.look(visitor.cookie as string)).data).toEqual({ userId: 'carol', then: 'what' });
    });

    it('that takes until the session has expired finds it gone', async () => {
      const held = gates.hold('a');
      const answer = browser.begin('/set?gate=a&a=1');
      await held.reached;
      clock.pass(86_400);
      held.release();
      expect(setCookies(await answer)).toEqual([]);
    });
  });

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
});

// Found in review, each once a defect.
onBothAdapters((adapter) => {
  const [newer, older] = SECRETS;

  it('a session that is only sealed anew, by a handler slower than ten seconds, is still there', async () => {
    const before = await start(adapter, { options: { secret: older } });
    const { clock } = before;
    const browser = before.browser();
    await browser.post('/login', { as: 'alice' });
    const both = await start(adapter, { clock, options: { secret: [newer, older] } });
    const moving = both.browserWith(browser.cookies);
    const held = gates.hold('a');
    const answer = moving.begin('/read?gate=a');
    await held.reached;
    clock.pass(60);
    held.release();
    expect(sessionCookies(await answer)).toHaveLength(1);
    clock.pass(60);
    expect((await moving.get('/look')).body.data).toEqual({ userId: 'alice' });
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

  describe('the ten seconds may end while the revocations are asked:', () => {
    let clock: Clock;
    let revocations: HeldStore;
    let site: Site;
    let browser: Browser;

    beforeEach(async () => {
      clock = new Clock();
      revocations = new HeldStore(undefined, clock.read);
      site = await start(adapter, { clock, store: { revocations } });
      browser = site.browser();
      await browser.post('/login', { as: 'alice' });
    });

    it('the session is found', async () => {
      clock.now += 9_999;
      const asked = revocations.hold('load');
      const answer = browser.begin('/look');
      await asked.reached;
      clock.now += 1;
      asked.release();
      expect((await answer).body.data).toEqual({ userId: 'alice' });
    });

    it('and saved', async () => {
      const held = gates.hold('a');
      const answer = browser.begin('/set?gate=a&a=1');
      await held.reached;
      clock.now += 9_999;
      const asked = revocations.hold('load');
      held.release();
      await asked.reached;
      clock.now += 1;
      asked.release();
      expect(sessionCookies(await answer)).toHaveLength(1);
      expect((await browser.get('/look')).body.data).toEqual({ userId: 'alice', a: '1' });
    });
  });

  describe('an answer that comes after the end of its session does not bring its cookie back:', () => {
    it('having saved before a logout', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      await browser.post('/login', { as: 'alice' });
      const held = gates.hold('a');
      const answer = browser.copy().begin('/save?gate=a&a=1');
      await held.reached;
      await browser.post('/logout');
      held.release();
      expect(setCookies(await answer)).toEqual([]);
    });

    it('having saved before a login, whose cookie it would replace', async () => {
      const site = await start(adapter, { store: { revocations: new MemoryStore() } });
      const browser = site.browser();
      await browser.get('/set?first=1');
      const held = gates.hold('a');
      const answer = browser.begin('/save?gate=a&a=1');
      await held.reached;
      const twin = browser.copy();
      await twin.post('/login', { as: 'alice' });
      for (const [name, value] of twin.cookies) browser.cookies.set(name, value);
      held.release();
      expect(setCookies(await answer)).toEqual([]);
      expect((await browser.get('/look')).body.data).toMatchObject({ userId: 'alice' });
    });

    it('having had an older secret to replace', async () => {
      const before = await start(adapter, { options: { secret: older } });
      const browser = before.browser();
      await browser.post('/login', { as: 'alice' });
      const site = await start(adapter, { clock: before.clock, options: { secret: [newer, older] } });
      const moving = site.browserWith(browser.cookies);
      const held = gates.hold('a');
      const answer = moving.copy().begin('/read?gate=a');
      await held.reached;
      await moving.post('/logout');
      held.release();
      expect(setCookies(await answer)).toEqual([]);
    });
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

it('a rotation that a commit makes too large leaves the session where it was', async () => {
  const clock = new Clock();
  const revocations = new HeldStore(undefined, clock.read);
  const store = new CookieStore({ revocations });
  const options = resolveOptions({ secret: SECRET, store, clock: clock.read });
  new TravelInUse(options, new KeyRing(options.secrets)).use(store);
  const [id, newId] = ['a'.repeat(64), 'b'.repeat(64)];
  const times = { createdAt: clock.now, lastAccessedAt: clock.now, expiresAt: clock.now + 86_400_000 };
  const set = (key: string, length: number) => ({
    set: new Map([[key, filler(length)]]),
    delete: [],
    header: {},
  });
  await store.create(id, { ...times, fields: new Map([['data:a', filler(1100)]]) });
  const revoking = revocations.hold('create');
  const rotation = store.rotate(id, newId, set('data:b', 1100));
  await revoking.reached;
  expect(await store.commit(id, set('data:c', 1100))).toBe('saved');
  revoking.release();
  await Promise.allSettled([rotation]);
  const found = (await store.load(id)) ?? (await store.load(newId));
  expect(found?.fields.get('data:a')).toBe(filler(1100));
});
