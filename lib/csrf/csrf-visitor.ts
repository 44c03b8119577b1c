import { randomBytes } from 'node:crypto';
import type { KeyRing } from '../crypto/key-ring.js';
import { Sealer } from '../crypto/sealer.js';
import { DUPLICATE, readCookie } from '../http/cookie-header.js';
import { SessionCookie } from '../http/session-cookie.js';
import type { ResolvedCookieOptions } from '../options/resolved-options.js';

/** The secret of a visitor who has no session yet. */
export interface VisitorSecret {
  readonly secret: Buffer;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  /** Sealed by an older secret than the first. */
  readonly outdated: boolean;
}

/**
 * Keeps the secret of a visitor without a session in a sealed cookie, so that a million who only look at a login form
 * leave nothing in the store. Called like the session's cookie with `_visitor` behind it, and as long as its maxAge.
 */
export class VisitorCookie {
  readonly #cookie: SessionCookie;
  readonly #sealer: Sealer;
  readonly #maxAge: number;
  readonly #now: () => number;

  constructor(cookie: ResolvedCookieOptions, keys: KeyRing, maxAge: number, now: () => number) {
    this.#cookie = new SessionCookie({
      cookie: { ...cookie, name: `${cookie.name}_visitor`, httpOnly: true },
    });
    this.#sealer = new Sealer(keys, 'csrf-visitor');
    this.#maxAge = maxAge;
    this.#now = now;
  }

  name(secure: boolean): string {
    return this.#cookie.name(secure);
  }

  isIn(header: string | undefined): boolean {
    return this.#cookie.mayBeIn(header);
  }

  newSecret(): VisitorSecret {
    return { secret: randomBytes(32), expiresAt: this.#now() + this.#maxAge, outdated: false };
  }

  /** Whether a secret has lived half its time, or a newer key should seal it: time to send it anew. */
  isDue({ expiresAt, outdated }: VisitorSecret): boolean {
    return outdated || expiresAt - this.#now() < this.#maxAge / 2;
  }

  read(header: string | undefined, secure: boolean): VisitorSecret | undefined {
    const name = this.name(secure);
    const value = readCookie(header, name);
    const opened = value === undefined || value === DUPLICATE ? undefined : this.#sealer.open(name, value);
    const [, encoded, until] = /^([A-Za-z0-9_-]{43}) (\d{1,15})$/.exec(opened?.text ?? '') ?? [];
    if (!opened || encoded === undefined || Number(until) <= this.#now()) return undefined;
    return { secret: Buffer.from(encoded, 'base64url'), expiresAt: Number(until), outdated: opened.outdated };
  }

  line({ secret }: VisitorSecret, secure: boolean): string {
    const text = `${secret.toString('base64url')} ${this.#now() + this.#maxAge}`;
    return this.#cookie.line(
      this.#sealer.seal(this.name(secure), text),
      Math.ceil(this.#maxAge / 1000),
      secure,
    );
  }

  deletion(secure: boolean): string {
    return this.#cookie.line('', 0, secure);
  }
}
