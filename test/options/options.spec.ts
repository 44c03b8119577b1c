import { ConfigModule } from '@nestjs/config';
import { Injectable, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  InjectSessionStore,
  MemoryStore,
  SESSION_STORE,
  sessionConfig,
  SessionConfigurationError,
  SessionManager,
  SessionModule,
  type SessionModuleOptions,
  type SessionModuleOptionsFactory,
  type SessionStore,
} from 'nest-session';
import { parseDuration } from '../../lib/util/duration.js';
import {
  type ResolvedSessionOptions,
  resolveOptions,
  SESSION_OPTIONS,
} from '../../lib/options/resolved-options.js';
import { SECRET } from '../support/app.js';

const warnings: string[] = [];
const logger = { log() {}, error() {}, warn: (text: string) => void warnings.push(text) };

type Loose = Record<string, unknown>;

/** The error with which an application that imports the module refuses to start. */
async function bootError(module: Parameters<typeof Test.createTestingModule>[0]['imports']): Promise<Error> {
  try {
    await Test.createTestingModule({ imports: module }).setLogger(logger).compile();
  } catch (error) {
    return error as Error;
  }
  throw new Error('It started.');
}

async function resolved(module: Parameters<typeof Test.createTestingModule>[0]['imports']) {
  const app = await Test.createTestingModule({ imports: module }).setLogger(logger).compile();
  return app.get<ResolvedSessionOptions>(SESSION_OPTIONS);
}

describe('an option that cannot be used stops the boot and names itself', () => {
  it.each<[string, Loose, string]>([
    [
      'a missing secret',
      { secret: undefined },
      'secret: got undefined, but it takes at least 32 random bytes',
    ],
    ['a short secret', { secret: 'short' }, "secret: got 'a secret of 5 bytes', but it takes at least 32"],
    ['a short Buffer', { secret: Buffer.alloc(31) }, "secret: got 'a secret of 31 bytes'"],
    ['a short secret in a list', { secret: [SECRET, 'old'] }, "secret[1]: got 'a secret of 3 bytes'"],
    ['no secrets in a list', { secret: [] }, 'secret: got []'],
    ['a secret that is none', { secret: 42 }, "secret: got 'number'"],
    [
      'an unknown sameSite',
      { cookie: { sameSite: 'foo' } },
      "cookie.sameSite: got 'foo', but it takes 'lax', 'strict' or 'none'",
    ],
    [
      'a name with a space',
      { cookie: { name: 'a b' } },
      "cookie.name: got 'a b', but it takes an RFC 9110 token",
    ],
    ['a name with a semicolon', { cookie: { name: 'a;b' } }, 'cookie.name'],
    [
      'a name with CRLF',
      { cookie: { name: 'a\r\nSet-Cookie: x' } },
      "cookie.name: got 'a\\r\\nSet-Cookie: x'",
    ],
    ['an empty name', { cookie: { name: '' } }, 'cookie.name'],
    ['a name outside ASCII', { cookie: { name: 'séssion' } }, 'cookie.name'],
    ['a path with a semicolon', { cookie: { path: '/a;b' } }, "cookie.path: got '/a;b'"],
    ['a path with CRLF', { cookie: { path: '/\r\nX: y' } }, 'cookie.path'],
    [
      'a relative path',
      { cookie: { path: 'app' } },
      "cookie.path: got 'app', but it takes a path that starts with '/'",
    ],
    ['a domain with a semicolon', { cookie: { domain: 'a;b' } }, 'cookie.domain'],
    ['a domain with CRLF', { cookie: { domain: 'a.example\r\n' } }, 'cookie.domain'],
    ['a domain that is a URL', { cookie: { domain: 'https://a.example' } }, 'cookie.domain'],
    ['a domain that is an address', { cookie: { domain: '127.0.0.1' } }, 'cookie.domain'],
    [
      'hostPrefix with a domain',
      { cookie: { hostPrefix: true, domain: 'a.example' } },
      "cookie.hostPrefix: a __Host- cookie has path '/' and no domain, or browsers drop it, but there is cookie.domain a.example",
    ],
    [
      'hostPrefix with another path',
      { cookie: { hostPrefix: true, path: '/a' } },
      'cookie.hostPrefix: a __Host- cookie',
    ],
    [
      'hostPrefix without Secure',
      { cookie: { hostPrefix: true, secure: false } },
      'cookie.secure: it cannot be false together with cookie.hostPrefix',
    ],
    [
      'a __Host- name with a domain',
      { cookie: { name: '__Host-sid', domain: 'a.example' } },
      'cookie.name: a __Host- cookie',
    ],
    [
      'a __Secure- name without Secure',
      { cookie: { name: '__Secure-sid', secure: false } },
      'cookie.secure: it cannot be false together with cookie.name',
    ],
    [
      'partitioned without Secure',
      { cookie: { partitioned: true, secure: false } },
      'cookie.secure: it cannot be false together with cookie.partitioned',
    ],
    [
      'an unknown priority',
      { cookie: { priority: 'urgent' } },
      "cookie.priority: got 'urgent', but it takes 'low', 'medium' or 'high'",
    ],
    [
      'a secure that is no flag',
      { cookie: { secure: 'yes' } },
      "cookie.secure: got 'yes', but it takes true, false or 'auto'",
    ],
    ['maxAge: NaN', { maxAge: Number.NaN }, 'maxAge: got NaN, but it takes a positive number of seconds'],
    ['a negative maxAge', { maxAge: -1 }, 'maxAge: got -1'],
    ['maxAge: 0', { maxAge: 0 }, 'maxAge: got 0'],
    ['an endless maxAge', { maxAge: 1e20 }, 'maxAge'],
    [
      'an unparsable maxAge',
      { maxAge: 'soon' },
      "maxAge: got 'soon', but it takes a positive number of seconds, or text such as '500ms', '30m', '24h' or '7d'",
    ],
    ['an unparsable absoluteMaxAge', { absoluteMaxAge: '1 fortnight' }, 'absoluteMaxAge'],
    ['an unparsable storeTimeout', { storeTimeout: {} }, 'storeTimeout'],
    ['too few idBytes', { idBytes: 8 }, 'idBytes: got 8, but it takes a whole number from 16 to 256'],
    ['half an id byte', { idBytes: 16.5 }, 'idBytes: got 16.5'],
    [
      'an unknown onStoreError',
      { onStoreError: 'ignore' },
      "onStoreError: got 'ignore', but it takes 'throw' or 'anonymous'",
    ],
    ['a rolling that is no flag', { rolling: 'yes' }, 'rolling'],
    ['a store that is none', { store: {} }, 'store: it takes a SessionStore, and this one has no create()'],
    [
      'half a store',
      { store: { create() {}, load() {} } },
      'store: it takes a SessionStore, and this one has no touch()',
    ],
    ['defaults that are none', { defaults: 'dark' }, "defaults: got 'dark'"],
    [
      'a default JSON cannot hold',
      { defaults: { at: new Date(0) } },
      'Cannot store session value at: a Date',
    ],
    [
      'a loginPath elsewhere',
      { auth: { loginPath: '//evil' } },
      "auth.loginPath: got '//evil', but it takes a path of this site",
    ],
    ['an empty auth key', { auth: { key: '' } }, 'auth.key'],
    ['a clock that is none', { clock: 12 }, 'clock: got 12, but it takes a function'],
    [
      'an unknown csrf.mode',
      { csrf: { mode: 'off' } },
      "csrf.mode: got 'off', but it takes 'both', 'auto' or 'origin-only'",
    ],
    ['an unknown csrf.multipart', { csrf: { multipart: 'skip' } }, "csrf.multipart: got 'skip'"],
    ['an empty csrf.field', { csrf: { field: '' } }, 'csrf.field'],
    ['a csrf.cookie with a space', { csrf: { cookie: 'a b' } }, "csrf.cookie: got 'a b'"],
    [
      'a csrf.cookie that is the session’s',
      { csrf: { cookie: 'session_id' } },
      'csrf.cookie: session_id is the name of another cookie here',
    ],
    [
      'a csrf.cookie that is the visitor’s',
      { csrf: { cookie: 'session_id_visitor' } },
      'csrf.cookie: session_id_visitor is the name',
    ],
    [
      'a csrf.cookie with a prefix',
      { csrf: { cookie: '__Host-x' } },
      'csrf.cookie: it takes a name without __Host-',
    ],
    [
      'trusted origins that are no list',
      { csrf: { trustedOrigins: 'https://a.example' } },
      'csrf.trustedOrigins: got',
    ],
    ...[
      'example.com',
      'https://',
      'https://x/',
      'https://x/y',
      'https://x?y',
      'https://x#y',
      ' https://x',
      '',
      'null',
      'https://*.x',
      'ftp://x',
      'https://X',
    ].map((origin): [string, Loose, string] => [
      `a trusted origin of ${JSON.stringify(origin)}`,
      { csrf: { trustedOrigins: ['https://ok.example:8443', origin] } },
      `csrf.trustedOrigins[1]: got '${origin}', but it takes origins as browsers send them`,
    ]),
    ['a misspelt option', { maxage: 5 }, 'maxage: there is no such option, only secret, store, maxAge'],
    ['a misspelt cookie option', { cookie: { samesite: 'lax' } }, 'cookie.samesite: there is no such option'],
    ['a cookie that is none', { cookie: 'sid' }, "cookie: got 'sid', but it takes an object"],
  ])('%s', async (_, options, message) => {
    const error = await bootError([
      SessionModule.forRoot({ secret: SECRET, ...options } as SessionModuleOptions),
    ]);
    expect(error.message).toContain(message);
    expect(error.message).not.toContain('\n');
  });

  it('with a coded error', async () => {
    const error = await bootError([SessionModule.forRoot({ secret: 'short' })]);
    expect(error).toBeInstanceOf(SessionConfigurationError);
    expect(error).toMatchObject({ code: 'E_SESSION_CONFIGURATION', option: 'secret' });
  });

  it('and a secret is never printed', async () => {
    const error = await bootError([SessionModule.forRoot({ secret: 'hunter2' })]);
    expect(`${error.message}${error.stack}`).not.toContain('hunter2');
  });
});

describe('options are resolved once', () => {
  it('into a frozen object with every default', async () => {
    const options = await resolved([SessionModule.forRoot({ secret: SECRET })]);
    expect(options).toMatchObject({
      maxAge: 86_400_000,
      absoluteMaxAge: 2_592_000_000,
      rolling: true,
      idBytes: 32,
      auth: { key: 'userId', loginPath: undefined },
      onStoreError: 'throw',
      storeTimeout: 2000,
      cookie: {
        name: 'session_id',
        path: '/',
        sameSite: 'lax',
        secure: 'auto',
        httpOnly: true,
        hostPrefix: true,
      },
    });
    expect(options.store).toBeInstanceOf(MemoryStore);
    expect(Object.isFrozen(options)).toBe(true);
    expect(Object.isFrozen(options.cookie)).toBe(true);
  });

  it('and what the application passed in is not changed', () => {
    const given = Object.freeze({ secret: SECRET, cookie: Object.freeze({ sameSite: 'none' as const }) });
    resolveOptions(given);
    expect(given).toEqual({ secret: SECRET, cookie: { sameSite: 'none' } });
  });

  it('Secure is the default in production', () => {
    const before = process.env.NODE_ENV;
    process.env.NODE_ENV = 'production';
    try {
      expect(resolveOptions({ secret: SECRET }).cookie.secure).toBe(true);
      expect(resolveOptions({ secret: SECRET, cookie: { secure: false } }).cookie.secure).toBe(false);
    } finally {
      process.env.NODE_ENV = before;
    }
  });

  it.each([
    [90, 90_000],
    [0.5, 500],
    ['90', 90_000],
    ['500ms', 500],
    ['45s', 45_000],
    ['30m', 1_800_000],
    ['1.5h', 5_400_000],
    [' 24 h ', 86_400_000],
    ['7d', 604_800_000],
    ['2w', 1_209_600_000],
  ])('%j is %i milliseconds', (text, milliseconds) => {
    expect(parseDuration(text, 'maxAge')).toBe(milliseconds);
  });

  it.each(['', ' ', 'm', '-1', '1e3', '0', '0s', '1 month', '1h30m', null, true, [], Infinity])(
    '%j is no length of time',
    (text) => expect(() => parseDuration(text, 'maxAge')).toThrow(/^Session option maxAge: got/),
  );
});

describe('the module takes its options', () => {
  const options: SessionModuleOptions = { secret: SECRET, maxAge: 60 };

  it('from a factory', async () => {
    @Module({ providers: [{ provide: 'SECRET', useValue: SECRET }], exports: ['SECRET'] })
    class Secrets {}
    const got = await resolved([
      SessionModule.forRootAsync({
        imports: [Secrets],
        inject: ['SECRET'],
        useFactory: async (secret: string) => ({ secret, maxAge: 60 }),
      }),
    ]);
    expect(got.maxAge).toBe(60_000);
  });

  @Injectable()
  class Options implements SessionModuleOptionsFactory {
    createSessionOptions(): SessionModuleOptions {
      return options;
    }
  }

  it('from a class', async () => {
    expect((await resolved([SessionModule.forRootAsync({ useClass: Options })])).maxAge).toBe(60_000);
  });

  it('from an existing provider', async () => {
    @Module({ providers: [Options], exports: [Options] })
    class Provider {}
    const module = SessionModule.forRootAsync({ imports: [Provider], useExisting: Options });
    expect((await resolved([module])).maxAge).toBe(60_000);
  });

  it('and checks those of a factory too', async () => {
    const error = await bootError([SessionModule.forRootAsync({ useFactory: () => ({ secret: 'short' }) })]);
    expect(error).toMatchObject({ code: 'E_SESSION_CONFIGURATION', option: 'secret' });
  });

  it('is global unless told otherwise', async () => {
    @Injectable()
    class Consumer {
      constructor(
        readonly sessions: SessionManager,
        @InjectSessionStore() readonly store: SessionStore,
      ) {}
    }
    @Module({ providers: [Consumer], exports: [Consumer] })
    class Feature {}

    const app = await Test.createTestingModule({
      imports: [SessionModule.forRoot(options), Feature],
    }).compile();
    const consumer = app.get(Consumer, { strict: false });
    expect(consumer.store).toBe(consumer.sessions.store);
    expect(consumer.store).toBe(app.get(SESSION_STORE));

    const error = await bootError([SessionModule.forRoot({ ...options, isGlobal: false }), Feature]);
    expect(error.message).toMatch(/can't resolve dependencies/);
  });

  it('closes the store when the application shuts down', async () => {
    let closed = 0;
    const store = new MemoryStore();
    store.close = async () => void closed++;
    const app = await Test.createTestingModule({
      imports: [SessionModule.forRoot({ ...options, store })],
    }).compile();
    await app.init();
    let completed = false;
    app.get(SessionManager).events.subscribe({ complete: () => (completed = true) });
    await app.close();
    expect(closed).toBe(1);
    expect(completed).toBe(true);
  });

  it('and a store that lacks a power says which, and who it is', async () => {
    class SmallStore extends MemoryStore {}
    const store = new SmallStore();
    Object.assign(store, { count: undefined });
    const app = await Test.createTestingModule({
      imports: [SessionModule.forRoot({ ...options, store })],
    }).compile();
    await expect(app.get(SessionManager).count()).rejects.toMatchObject({
      code: 'E_SESSION_STORE_UNSUPPORTED',
      message: expect.stringMatching(/^SmallStore has no count\(\)/),
    });
  });
});

describe('the environment', () => {
  const before = { ...process.env };
  beforeEach(() => {
    warnings.splice(0);
  });
  afterEach(() => {
    process.env = { ...before };
  });

  const fromEnvironment = () => resolved([SessionModule.forRoot()]);

  it('is where forRoot() without options takes them from', async () => {
    Object.assign(process.env, {
      SESSION_DRIVER: 'memory',
      SESSION_SECRET: `${'x'.repeat(32)}, ${'y'.repeat(40)}`,
      SESSION_MAX_AGE: '30m',
      SESSION_ABSOLUTE_MAX_AGE: '7d',
      SESSION_COOKIE_NAME: 'sid',
      SESSION_COOKIE_DOMAIN: 'example.com',
      SESSION_SAMESITE: 'Strict',
      SESSION_SECURE: 'true',
      SESSION_HOST_PREFIX: 'false',
    });
    const options = await fromEnvironment();
    expect(options).toMatchObject({
      maxAge: 1_800_000,
      absoluteMaxAge: 604_800_000,
      cookie: { name: 'sid', domain: 'example.com', sameSite: 'strict', secure: true, hostPrefix: false },
    });
    expect(options.store).toBeInstanceOf(MemoryStore);
    expect(options.secrets.map(String)).toEqual(['x'.repeat(32), 'y'.repeat(40)]);
    expect(warnings).toEqual([]);
  });

  it('is read by sessionConfig, for forRootAsync and for a configuration file', async () => {
    process.env.SESSION_SECRET = 'x'.repeat(32);
    process.env.SESSION_MAX_AGE = '90';
    const options = await resolved([
      ConfigModule.forRoot({ load: [sessionConfig], isGlobal: true, ignoreEnvFile: true }),
      SessionModule.forRootAsync(sessionConfig.asProvider()),
    ]);
    expect(options.maxAge).toBe(90_000);
  });

  it('may be empty outside production: a random secret, and a warning', async () => {
    delete process.env.SESSION_SECRET;
    const options = await fromEnvironment();
    expect(options.secrets[0].length).toBeGreaterThanOrEqual(32);
    expect(warnings).toEqual([expect.stringMatching(/SESSION_SECRET is not set.*every session ends/)]);
  });

  it('must hold a secret in production', async () => {
    delete process.env.SESSION_SECRET;
    process.env.NODE_ENV = 'production';
    const error = await bootError([SessionModule.forRoot()]);
    expect(error.message).toMatch(/^Session option SESSION_SECRET: it is not set\. In production it must be/);
  });

  it('counts a variable that is set to nothing as not set', async () => {
    Object.assign(process.env, { SESSION_SECRET: 'x'.repeat(32), SESSION_MAX_AGE: '', SESSION_SECURE: ' ' });
    expect(await fromEnvironment()).toMatchObject({ maxAge: 86_400_000, cookie: { secure: 'auto' } });
  });

  it.each([
    ['SESSION_DRIVER', 'oracle', "got 'oracle', but it takes memory"],
    ['SESSION_DRIVER', 'constructor', "got 'constructor'"],
    ['SESSION_SECRET', 'short', "got 'a secret of 5 bytes'"],
    ['SESSION_SECRET[1]', `${'x'.repeat(32)},short`, "got 'a secret of 5 bytes'"],
    ['SESSION_MAX_AGE', 'soon', "got 'soon'"],
    ['SESSION_ABSOLUTE_MAX_AGE', '-1', "got '-1'"],
    ['SESSION_COOKIE_NAME', 'a b', "got 'a b'"],
    ['SESSION_COOKIE_DOMAIN', 'a;b', "got 'a;b'"],
    ['SESSION_SAMESITE', 'sometimes', "got 'sometimes'"],
    ['SESSION_SECURE', 'maybe', "got 'maybe', but it takes true, false or auto"],
    ['SESSION_HOST_PREFIX', 'maybe', "got 'maybe'"],
  ])('names %s when it holds %j', async (variable, value, problem) => {
    process.env.SESSION_SECRET = 'x'.repeat(32);
    process.env[variable.replace('[1]', '')] = value;
    const error = await bootError([SessionModule.forRoot()]);
    expect(error.message).toContain(`Session option ${variable}: ${problem}`);
    expect(warnings).toEqual([]);
  });
});
