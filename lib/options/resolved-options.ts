import { isIP } from 'node:net';
import { SessionConfigurationError } from '../errors.js';
import { isOrigin } from '../util/origin.js';
import { isLocalPath } from '../util/local-path.js';
import { encode } from '../util/json-text.js';
import { MemoryStore } from '../stores/memory/memory.store.js';
import type { SessionStore } from '../stores/session-store.js';
import { oneOf, section, text, TOKEN } from '../util/checks.js';
import { parseDuration } from '../util/duration.js';
import type { SessionModuleOptions } from './session-module-options.js';

/** The injection token of the resolved options. */
export const SESSION_OPTIONS = Symbol('SESSION_OPTIONS');

/** {@link SessionModuleOptions}, checked, frozen and with defaults. Times are in milliseconds. */
export interface ResolvedSessionOptions {
  readonly secrets: readonly Buffer[];
  readonly store: SessionStore;
  readonly maxAge: number;
  readonly absoluteMaxAge: number;
  readonly rolling: boolean;
  readonly idBytes: number;
  readonly cookie: ResolvedCookieOptions;
  /** The JSON text of each default, by session key. */
  readonly defaults: () => ReadonlyMap<string, string>;
  readonly auth: {
    readonly key: string;
    readonly loginPath: string | undefined;
    readonly maxSessionsPerUser: number;
  };
  readonly csrf: ResolvedCsrfOptions;
  readonly onStoreError: 'throw' | 'anonymous';
  readonly storeTimeout: number;
  readonly clock: () => number;
}

/** {@link SessionModuleOptions.cookie}, resolved. */
export interface ResolvedCookieOptions {
  readonly name: string;
  readonly path: string;
  readonly domain: string | undefined;
  readonly httpOnly: boolean;
  readonly partitioned: boolean;
  readonly priority: 'low' | 'medium' | 'high' | undefined;
  readonly sameSite: 'lax' | 'strict' | 'none';
  readonly secure: boolean | 'auto';
  /** True if the name of the cookie gets `__Host-` when the cookie is Secure. */
  readonly hostPrefix: boolean;
}

/** The rules by which a request is judged; see {@link SessionCsrfOptions}. */
export interface CsrfRules {
  readonly mode: 'both' | 'auto' | 'origin-only';
  readonly trustedOrigins: ReadonlySet<string>;
  readonly multipart: 'header' | 'same-origin';
}

/** {@link SessionModuleOptions.csrf}, resolved. */
export interface ResolvedCsrfOptions extends CsrfRules {
  /** The cookie that scripts can read: `false` for none, `true` for its default name, or its name. */
  readonly cookie: boolean | string;
  readonly field: string;
}

/** Checks every option. Throws {@link SessionConfigurationError} for the first that cannot be used. */
export function resolveOptions(options: SessionModuleOptions): ResolvedSessionOptions {
  const given = section(options, '', [
    ...['secret', 'store', 'maxAge', 'absoluteMaxAge', 'rolling', 'idBytes', 'cookie', 'defaults', 'auth'],
    ...['csrf', 'onStoreError', 'storeTimeout', 'clock', 'isGlobal'],
  ]);
  const auth = section(given.auth, 'auth', ['key', 'loginPath', 'maxSessionsPerUser']);
  const clock = given.clock ?? Date.now;
  const resolvedCookie = Object.freeze(cookie(given.cookie));
  if (typeof clock !== 'function') throw SessionConfigurationError.value('clock', clock, 'a function');
  return Object.freeze<ResolvedSessionOptions>({
    secrets: secrets(given.secret),
    store: given.store === undefined ? new MemoryStore({ clock }) : checkedStore(given.store),
    maxAge: parseDuration(given.maxAge ?? 86_400, 'maxAge'),
    absoluteMaxAge: parseDuration(given.absoluteMaxAge ?? '30d', 'absoluteMaxAge'),
    rolling: oneOf(given.rolling ?? true, 'rolling', [true, false]),
    idBytes: idBytes(given.idBytes ?? 32),
    cookie: resolvedCookie,
    defaults: defaults(given.defaults),
    auth: Object.freeze({
      key: text(auth.key ?? 'userId', 'auth.key', /./s, 'the name of a session key'),
      loginPath: loginPath(auth.loginPath),
      maxSessionsPerUser: maxSessionsPerUser(auth.maxSessionsPerUser ?? Infinity),
    }),
    csrf: Object.freeze(csrf(given.csrf, resolvedCookie)),
    onStoreError: oneOf(given.onStoreError ?? 'throw', 'onStoreError', ['throw', 'anonymous']),
    storeTimeout: parseDuration(given.storeTimeout ?? 2, 'storeTimeout'),
    clock,
  });
}

const SECRET_BYTES = 32;

function secrets(secret: SessionModuleOptions['secret'] | undefined): readonly Buffer[] {
  const takes = `at least ${SECRET_BYTES} random bytes, for example from "openssl rand -base64 32"`;
  const list: unknown[] = Array.isArray(secret) ? secret : [secret];
  if (list.length === 0) throw SessionConfigurationError.value('secret', [], takes);
  return list.map((one, index) => {
    const name = Array.isArray(secret) ? `secret[${index}]` : 'secret';
    if (typeof one !== 'string' && !Buffer.isBuffer(one)) {
      throw SessionConfigurationError.value(name, one === undefined ? one : typeof one, takes);
    }
    const bytes = Buffer.from(one as string);
    if (bytes.length < SECRET_BYTES) {
      throw SessionConfigurationError.value(name, `a secret of ${bytes.length} bytes`, takes);
    }
    return bytes;
  });
}

/** Returns the store. Throws {@link SessionConfigurationError} if it lacks a method that every store must have. */
export function checkedStore(given: SessionStore): SessionStore {
  const missing = (['create', 'load', 'touch', 'commit', 'rotate', 'destroy'] as const).find(
    (method) => typeof given?.[method] !== 'function',
  );
  if (missing) {
    throw new SessionConfigurationError('store', `it takes a SessionStore, and this one has no ${missing}()`);
  }
  return given;
}

function maxSessionsPerUser(limit: number): number {
  if (Number.isInteger(limit) ? limit >= 1 : limit === Infinity) return limit;
  throw SessionConfigurationError.value('auth.maxSessionsPerUser', limit, 'a whole number of at least 1');
}

function idBytes(bytes: unknown): number {
  if (!Number.isInteger(bytes) || (bytes as number) < 16 || (bytes as number) > 256) {
    throw SessionConfigurationError.value('idBytes', bytes, 'a whole number from 16 to 256');
  }
  return bytes as number;
}

const PATH = /^\/[\x20-\x3a\x3c-\x7e]*$/; // RFC 6265bis path-value: any visible character or space but ";"
const DOMAIN = /^\.?(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?$/;

function cookie(given: SessionModuleOptions['cookie']): ResolvedCookieOptions {
  const options = section(given, 'cookie', [
    ...['name', 'path', 'domain', 'httpOnly', 'partitioned', 'priority', 'sameSite', 'secure', 'hostPrefix'],
  ]);
  const name = text(
    options.name ?? 'session_id',
    'cookie.name',
    TOKEN,
    'an RFC 9110 token such as session_id',
  );
  const path = text(options.path ?? '/', 'cookie.path', PATH, "a path that starts with '/' and holds no ';'");
  const domain =
    options.domain === undefined
      ? undefined
      : text(options.domain, 'cookie.domain', DOMAIN, 'a host name such as example.com');
  if (domain !== undefined && isIP(domain)) {
    throw SessionConfigurationError.value(
      'cookie.domain',
      domain,
      'a host name; browsers refuse an IP address here',
    );
  }
  const sameSite = oneOf(options.sameSite ?? 'lax', 'cookie.sameSite', ['lax', 'strict', 'none']);
  const partitioned = oneOf(options.partitioned ?? false, 'cookie.partitioned', [true, false]);
  const hostPrefix = oneOf(options.hostPrefix ?? 'auto', 'cookie.hostPrefix', [true, false, 'auto']);
  const secureByDefault = process.env.NODE_ENV === 'production' ? true : 'auto';
  const asked = oneOf(options.secure ?? secureByDefault, 'cookie.secure', [true, false, 'auto']);

  const named = /^__(host|secure)-/i.exec(name)?.[1].toLowerCase();
  const hostBound = hostPrefix === true ? 'cookie.hostPrefix' : named === 'host' ? 'cookie.name' : undefined;
  if (hostBound && (domain !== undefined || path !== '/')) {
    const conflict = domain === undefined ? `cookie.path ${path}` : `cookie.domain ${domain}`;
    throw new SessionConfigurationError(
      hostBound,
      `a __Host- cookie has path '/' and no domain, or browsers drop it, but there is ${conflict}`,
    );
  }
  const needsSecure = hostBound ?? (named ? 'cookie.name' : partitioned ? 'cookie.partitioned' : undefined);
  if (needsSecure && options.secure === false && sameSite !== 'none') {
    throw new SessionConfigurationError('cookie.secure', `it cannot be false together with ${needsSecure}`);
  }
  const secure = sameSite === 'none' || hostPrefix === true || named !== undefined ? true : asked;
  return {
    name,
    path,
    domain,
    httpOnly: oneOf(options.httpOnly ?? true, 'cookie.httpOnly', [true, false]),
    partitioned,
    priority:
      options.priority === undefined
        ? undefined
        : oneOf(options.priority, 'cookie.priority', ['low', 'medium', 'high']),
    sameSite,
    secure,
    hostPrefix: hostPrefix !== false && named === undefined && path === '/' && domain === undefined,
  };
}

function csrf(given: SessionModuleOptions['csrf'], session: ResolvedCookieOptions): ResolvedCsrfOptions {
  const options = section(given, 'csrf', ['mode', 'trustedOrigins', 'cookie', 'field', 'multipart']);
  const named = typeof options.cookie === 'string';
  const origins = options.trustedOrigins ?? [];
  const takes = 'origins as browsers send them, such as https://app.example.com';
  if (!Array.isArray(origins))
    throw SessionConfigurationError.value('csrf.trustedOrigins', origins, `a list of ${takes}`);
  for (const [index, origin] of origins.entries()) {
    if (typeof origin === 'string' && /^https?:[^*]+$/.test(origin) && isOrigin(origin)) continue;
    throw SessionConfigurationError.value(`csrf.trustedOrigins[${index}]`, origin, takes);
  }
  if (options.cookie === session.name || options.cookie === `${session.name}_visitor`) {
    throw new SessionConfigurationError(
      'csrf.cookie',
      `${options.cookie} is the name of another cookie here`,
    );
  }
  if (named && /^__(host|secure)-/i.test(String(options.cookie))) {
    throw new SessionConfigurationError('csrf.cookie', 'it takes a name without __Host- or __Secure-');
  }
  return {
    mode: oneOf(options.mode ?? 'both', 'csrf.mode', ['both', 'auto', 'origin-only']),
    trustedOrigins: new Set(origins),
    cookie: named
      ? text(options.cookie, 'csrf.cookie', TOKEN, 'true, false or a cookie name such as XSRF-TOKEN')
      : oneOf(options.cookie ?? false, 'csrf.cookie', [true, false]),
    field: text(options.field ?? '_csrf', 'csrf.field', /./s, 'the name of a field'),
    multipart: oneOf(options.multipart ?? 'header', 'csrf.multipart', ['header', 'same-origin']),
  };
}

function defaults(given: SessionModuleOptions['defaults']): () => ReadonlyMap<string, string> {
  if (typeof given === 'function') return () => texts(given());
  if (given !== undefined && (typeof given !== 'object' || given === null)) {
    throw SessionConfigurationError.value('defaults', given, 'an object or a function that returns one');
  }
  const once = texts(given ?? {});
  return () => once;
}

function texts(values: object): ReadonlyMap<string, string> {
  return new Map(Object.entries(values).map(([key, value]) => [key, encode(value, key)]));
}

function loginPath(path: unknown): string | undefined {
  if (path === undefined || isLocalPath(path)) return path;
  throw SessionConfigurationError.value('auth.loginPath', path, "a path of this site such as '/login'");
}
