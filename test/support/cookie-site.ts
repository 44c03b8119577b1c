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
} from '@nestjs/common';
import {
  CookieStore,
  type CookieStoreOptions,
  CsrfGuard,
  CsrfToken,
  Flash,
  Session,
  type SessionEvent,
  SessionManager,
  SessionModule,
  type SessionModuleOptions,
  type SessionStore,
} from 'nest-session';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import request from 'supertest';
import { KeyRing } from '../../lib/crypto/key-ring.js';
import { Sealer } from '../../lib/crypto/sealer.js';
import { encodeRecord } from '../../lib/stores/cookie/sealed-record.js';
import { type Adapter, Browser, Clock, createApp, SECRET, setCookies } from './app.js';

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

export const gates = new Gates();

@Controller()
export class PageController {
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

export interface Setup {
  /** Of the store; or another store altogether. */
  store?: CookieStoreOptions | SessionStore;
  options?: Partial<SessionModuleOptions>;
  clock?: Clock;
  providers?: Provider[];
  trustProxy?: boolean;
  prepare?: (app: INestApplication) => unknown;
}

/** An application whose sessions are in cookies: `serve()` would hide that behind a store of its own. */
export class Site {
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

export const sites: Site[] = [];

export async function start(adapter: Adapter, setup: Setup = {}): Promise<Site> {
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

export async function closeSites(): Promise<void> {
  await Promise.all(sites.splice(0).map((site) => site.app.close()));
}

export const ANONYMOUS = { data: {}, id: null };

export const SECRETS = ['first', 'second'].map((word) => `the ${word} secret, of thirty-two bytes or more`);

/** What the application of {@link SECRET} would have sealed. */
export function forge(
  text: string,
  { name = 'session_id', purpose = 'session', audience = '', secret = SECRET } = {},
): string {
  return new Sealer(new KeyRing([Buffer.from(secret)]), purpose as 'session', audience).seal(name, text);
}

/** What a cookie says of the secret that sealed it. */
export const keyIdOf = (secret: Buffer): string => new KeyRing([secret]).ids[0];

let payloads = 0;

/** The text of another session each time, of somebody with `data`, which lives for a day. */
export function payload(
  now: number,
  { data = {} as Record<string, unknown>, savedAt = now, createdAt = now, expiresAt = now + 86_400_000 } = {},
): string {
  const fields = new Map(Object.entries(data).map(([key, value]) => [`data:${key}`, JSON.stringify(value)]));
  const record = { createdAt, lastAccessedAt: createdAt, expiresAt, fields };
  return encodeRecord({ secret: `secret number ${++payloads}`, savedAt, record });
}

/** A Cookie header. */
export function headerOf(cookies: Map<string, string>): string {
  return [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
}

/** Name and value of each Set-Cookie line. */
export function pairs(response: {
  headers: Record<string, unknown>;
}): [name: string, value: string, line: string][] {
  return setCookies(response).map((line) => {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(line) as RegExpExecArray;
    return [name, value, line];
  });
}

export const filler = (length: number): string => 'x'.repeat(length);
