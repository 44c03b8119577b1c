import type { ResolvedCookieOptions } from '../options/resolved-options.js';

/** Browsers cap Max-Age at 400 days (RFC 6265bis §5.5); so do we. */
const LONGEST_MAX_AGE = 34_560_000;

/**
 * The session cookie's name and its Set-Cookie line, in this order:
 *
 *     name=value; Path=/[; Domain=d]; [HttpOnly; ]SameSite=Lax; Max-Age=n[; Secure][; Partitioned][; Priority=High]
 *
 * Attributes are joined once, at boot. A cookie is deleted by the same line with an empty value and Max-Age=0.
 */
export class SessionCookie {
  readonly #secure: boolean | 'auto';
  readonly #name: string;
  readonly #securedName: string;
  readonly #beforeMaxAge: string;
  readonly #secured: string;
  readonly #unsecured: string;

  constructor({ cookie }: { cookie: ResolvedCookieOptions }) {
    this.#secure = cookie.secure;
    this.#name = cookie.name;
    this.#securedName = cookie.hostPrefix ? `__Host-${cookie.name}` : cookie.name;
    this.#beforeMaxAge =
      `; Path=${cookie.path}` +
      (cookie.domain ? `; Domain=${cookie.domain}` : '') +
      (cookie.httpOnly ? '; HttpOnly' : '') +
      `; SameSite=${capitalised(cookie.sameSite)}; Max-Age=`;
    const priority = cookie.priority ? `; Priority=${capitalised(cookie.priority)}` : '';
    this.#secured = `; Secure${cookie.partitioned ? '; Partitioned' : ''}${priority}`;
    this.#unsecured = priority;
  }

  /** Whether this request's cookie is Secure; `isHttps` is asked only when that decides. */
  isSecure(isHttps: () => boolean): boolean {
    return this.#secure === 'auto' ? isHttps() : this.#secure;
  }

  /** Whether a Cookie header can hold ours at all: a cheap look before anything is parsed. */
  mayBeIn(header: string | undefined): header is string {
    return header !== undefined && header.includes(this.#name);
  }

  /** `__Host-` is there exactly when the cookie is Secure and may carry it. */
  name(secure: boolean): string {
    return secure ? this.#securedName : this.#name;
  }

  /** The Set-Cookie line; `maxAge` in seconds, 0 deletes. */
  line(value: string, maxAge: number, secure: boolean, name = this.name(secure)): string {
    const age = Math.min(maxAge, LONGEST_MAX_AGE);
    return name + '=' + value + this.#beforeMaxAge + age + (secure ? this.#secured : this.#unsecured);
  }
}

function capitalised(word: string): string {
  return word[0].toUpperCase() + word.slice(1);
}
