import type { SessionData } from './session-data.js';
import type { SessionStore } from '../stores/session-store.js';

/** What `SessionModule.forRoot()` takes. Times are seconds, or text such as `'500ms'`, `'30m'`, `'24h'`, `'7d'`. */
export interface SessionModuleOptions {
  /**
   * Signs the cookies: at least 32 bytes, random (`openssl rand -base64 32`). Of several, newest first, the first
   * signs and all verify; a cookie signed by an older one is issued anew (ASVS 5.0 V11.2.2).
   */
  secret: string | Buffer | readonly (string | Buffer)[];

  /**
   * Where sessions are kept.
   * @default new MemoryStore()
   */
  store?: SessionStore;

  /**
   * Idle lifetime: how long a session lasts after its last use (ASVS 5.0 V7.3.1).
   * @default 86400 (24 hours)
   */
  maxAge?: number | string;

  /**
   * Absolute lifetime, counted from the session's creation and never extended (ASVS 5.0 V7.3.2).
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
   * What `get()` answers for a key that was never set; not stored until changed. A function is called once per
   * request that needs it.
   */
  defaults?: Partial<SessionData> | (() => Partial<SessionData>);

  /** Who is logged in, and what happens to those who are not. */
  auth?: SessionAuthOptions;

  /** Cross-site request forgery; see `CsrfGuard`. */
  csrf?: SessionCsrfOptions;

  /**
   * When the store cannot be reached: `'throw'` answers 503. `'anonymous'` lets the request go on without its
   * session: nothing it writes is kept, its cookie stays as it is, and logging in or out is still a 503.
   * @default 'throw'
   */
  onStoreError?: 'throw' | 'anonymous';

  /**
   * How long the store may take before it counts as unreachable.
   * @default 2
   */
  storeTimeout?: number | string;

  /**
   * The current time in milliseconds; for tests.
   * @default Date.now
   */
  clock?: () => number;

  /**
   * Whether every module can inject `SessionManager` without importing `SessionModule`.
   * @default true
   */
  isGlobal?: boolean;
}

/** The session cookie (RFC 6265bis). */
export interface SessionCookieOptions {
  /**
   * An RFC 9110 token.
   * @default 'session_id'
   */
  name?: string;
  /** @default '/' */
  path?: string;
  /** Sends the cookie to subdomains too. @default none: this host only */
  domain?: string;
  /** Hides the cookie from scripts. @default true */
  httpOnly?: boolean;
  /** CHIPS: a separate cookie for each top-level site; needs Secure. @default false */
  partitioned?: boolean;
  /** Which cookies Chromium evicts first. @default none */
  priority?: 'low' | 'medium' | 'high';
  /** `'none'` forces Secure. @default 'lax' */
  sameSite?: 'lax' | 'strict' | 'none';
  /**
   * `'auto'`: Secure when the request came over HTTPS, as the adapter sees it (trusted proxies included).
   * @default true under NODE_ENV=production, otherwise 'auto'
   */
  secure?: boolean | 'auto';
  /**
   * Whether the name starts with `__Host-`, which binds the cookie to this host over HTTPS (RFC 6265bis §4.1.3.2).
   * `'auto'`: whenever the cookie is Secure, has Path=/ and no Domain. `true` makes it Secure.
   * @default 'auto'
   */
  hostPrefix?: boolean | 'auto';
}

/** How the session knows its user. */
export interface SessionAuthOptions {
  /**
   * The key whose value says who is logged in. Whoever writes a new value there gets a new session id.
   * @default 'userId'
   */
  key?: keyof SessionData & string;
  /**
   * Where `AuthenticatedGuard` sends browsers; a path of this site.
   * @default none: 401
   */
  loginPath?: string;
  /**
   * How many sessions a user may have at once; with one more login, the one that logged in longest ago is revoked, and
   * its browser told so by the flash message `error`. Needs a store with `listByUser()`.
   * @default no limit
   */
  maxSessionsPerUser?: number;
}

/** What `CsrfGuard` asks for. */
export interface SessionCsrfOptions {
  /**
   * `'both'`: the headers must not object and the token must be valid. `'auto'`: proof that one of our own pages sent
   * the request is enough, otherwise the token decides. `'origin-only'`: no tokens; the headers must say something.
   * @default 'both'
   */
  mode?: 'both' | 'auto' | 'origin-only';
  /**
   * Other origins whose requests the headers may name, such as `https://app.example.com`: scheme, host and port.
   * @default []
   */
  trustedOrigins?: readonly string[];
  /**
   * Hands the token to scripts in a cookie they can read: `true` calls it `XSRF-TOKEN`, or `__Host-XSRF-TOKEN` when
   * it is Secure; text gives it a name. Transport only: the server never compares a cookie with a header.
   * @default false
   */
  cookie?: boolean | string;
  /**
   * The field of a parsed body that holds the token.
   * @default '_csrf'
   */
  field?: string;
  /**
   * A multipart body is not parsed yet when guards run. `'header'`: its token has to come in a header. `'same-origin'`:
   * proof that one of our own pages sent it is accepted in the token's place.
   * @default 'header'
   */
  multipart?: 'header' | 'same-origin';
}

/** What `forRootAsync({ useClass })` and `{ useExisting }` call. */
export interface SessionModuleOptionsFactory {
  createSessionOptions(): SessionModuleOptions | Promise<SessionModuleOptions>;
}
