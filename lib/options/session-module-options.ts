import type { SessionData } from './session-data.js';
import type { SessionStore } from '../stores/session-store.js';

/** Options of `SessionModule.forRoot()`. Times are seconds, or text such as `'500ms'`, `'30m'`, `'24h'`, `'7d'`. */
export interface SessionModuleOptions {
  /**
   * Signs and seals the cookies. At least 32 random bytes (`openssl rand -base64 32`). In a list, the newest comes
   * first: it signs, and all of them verify. A cookie signed by an older one is issued anew (ASVS 5.0 V11.2.2).
   */
  secret: string | Buffer | readonly (string | Buffer)[];

  /**
   * The store that keeps the sessions.
   * @default new MemoryStore()
   */
  store?: SessionStore;

  /**
   * Idle lifetime: a session ends when it was not used for this time (ASVS 5.0 V7.3.1).
   * @default 86400 (24 hours)
   */
  maxAge?: number | string;

  /**
   * Absolute lifetime since the session's creation. Never extended (ASVS 5.0 V7.3.2).
   * @default '30d'
   */
  absoluteMaxAge?: number | string;

  /**
   * `true`: any request extends the session, at most once per tenth of `maxAge`. `false`: only writes extend it.
   * @default true
   */
  rolling?: boolean;

  /**
   * Random bytes in the cookie's secret, 16 to 256 (ASVS 5.0 V7.2.3).
   * @default 32
   */
  idBytes?: number;

  /** The cookie's name and attributes. */
  cookie?: SessionCookieOptions;

  /**
   * Values that `get()` returns for keys that were never set. A default is not stored until it is changed. A
   * function is called once per request that needs a default.
   */
  defaults?: Partial<SessionData> | (() => Partial<SessionData>);

  /** The key that holds the user's id, the login page, and how many sessions a user may have. */
  auth?: SessionAuthOptions;

  /** Protection against cross-site request forgery; see `CsrfGuard`. */
  csrf?: SessionCsrfOptions;

  /**
   * The response when the store cannot be reached. `'throw'`: 503. `'anonymous'`: the request goes on without its
   * session. Its writes are lost, its cookie stays as it is, and a login or logout is still a 503.
   * @default 'throw'
   */
  onStoreError?: 'throw' | 'anonymous';

  /**
   * Time after which a store that has not answered counts as unreachable.
   * @default 2
   */
  storeTimeout?: number | string;

  /**
   * The current time in milliseconds; for tests.
   * @default Date.now
   */
  clock?: () => number;

  /**
   * `true`: every module can inject `SessionManager` without importing `SessionModule`.
   * @default true
   */
  isGlobal?: boolean;
}

/** The session cookie (RFC 6265bis). */
export interface SessionCookieOptions {
  /**
   * The name of the cookie: an RFC 9110 token.
   * @default 'session_id'
   */
  name?: string;
  /** The Path attribute. @default '/' */
  path?: string;
  /** The Domain attribute. With it, subdomains get the cookie too. @default none: this host only */
  domain?: string;
  /** Hides the cookie from scripts. @default true */
  httpOnly?: boolean;
  /** CHIPS: a separate cookie for each top-level site. Needs Secure. @default false */
  partitioned?: boolean;
  /** The Priority attribute: Chromium evicts cookies of low priority first. @default none */
  priority?: 'low' | 'medium' | 'high';
  /** The SameSite attribute. `'none'` makes the cookie Secure. @default 'lax' */
  sameSite?: 'lax' | 'strict' | 'none';
  /**
   * The Secure attribute. `'auto'`: Secure if the request came over HTTPS, trusted proxies included.
   * @default true under NODE_ENV=production, otherwise 'auto'
   */
  secure?: boolean | 'auto';
  /**
   * Adds `__Host-` to the name, which binds the cookie to this host over HTTPS (RFC 6265bis §4.1.3.2). `'auto'`:
   * when the cookie is Secure, has Path=/ and no Domain. `true`: always, and the cookie is Secure. `false`: never.
   * @default 'auto'
   */
  hostPrefix?: boolean | 'auto';
}

/** Options of login: see {@link SessionModuleOptions.auth}. */
export interface SessionAuthOptions {
  /**
   * The session key that holds the id of the logged-in user. Writing another id there changes the session's id.
   * @default 'userId'
   */
  key?: keyof SessionData & string;
  /**
   * The path of this site to which `AuthenticatedGuard` redirects browsers that are not logged in.
   * @default none: 401
   */
  loginPath?: string;
  /**
   * The number of sessions that a user may have at once. One more login ends the session that logged in longest ago.
   * The flash message `error` then tells that session's browser. Needs a store with `listByUser()`.
   * @default no limit
   */
  maxSessionsPerUser?: number;
}

/** Options of `CsrfGuard`. */
export interface SessionCsrfOptions {
  /**
   * `'both'`: the headers (Sec-Fetch-Site, Origin, Referer) must not name an untrusted origin, and the token must be
   * valid. `'auto'`: the same, but no token is needed if the headers say that a page of this origin sent the request.
   * `'origin-only'`: no tokens; one of the headers must be there, and must not name an untrusted origin.
   * @default 'both'
   */
  mode?: 'both' | 'auto' | 'origin-only';
  /**
   * Other origins that the headers may name: scheme, host and port, such as `https://app.example.com`.
   * @default []
   */
  trustedOrigins?: readonly string[];
  /**
   * A cookie that gives the token to scripts. `true`: its name is `XSRF-TOKEN`, or `__Host-XSRF-TOKEN` when it is
   * Secure. Text: its name. It only carries the token: the server never compares a cookie with a header.
   * @default false
   */
  cookie?: boolean | string;
  /**
   * The field of the parsed body that holds the token.
   * @default '_csrf'
   */
  field?: string;
  /**
   * The check of multipart requests, whose body is not parsed yet when guards run. `'header'`: the token must come in
   * a header. `'same-origin'`: headers that say that a page of this origin sent the request replace the token.
   * @default 'header'
   */
  multipart?: 'header' | 'same-origin';
}

/** A provider of options, for `forRootAsync({ useClass })` and `forRootAsync({ useExisting })`. */
export interface SessionModuleOptionsFactory {
  createSessionOptions(): SessionModuleOptions | Promise<SessionModuleOptions>;
}
