import { randomBytes, timingSafeEqual, type KeyObject } from 'node:crypto';
import { type KeyRing, mac } from '../crypto/key-ring.js';
import { BoundedCache } from '../util/bounded-cache.js';
import { type Identity, publicId, type SessionTravel, type Verified } from '../stores/session-travel.js';

/** At least 16 bytes of secret, a dot, and 32 bytes of signature: nothing else is looked at. */
const SHAPE = /^[A-Za-z0-9_-]{22,344}\.[A-Za-z0-9_-]{43}$/;

/** How many verified cookies to remember, so that a browser's next request costs no HMAC. */
const REMEMBERED = 4096;

/**
 * Travel by reference. The value of the cookie is
 *
 *     <secret> "." base64url(HMAC-SHA256(K, <cookie name> "=" <secret>))
 *
 * with the secret in base64url and K the key for `session-id`. The name in the message keeps a value signed for
 * one cookie from being accepted in another.
 */
export class SignedId implements SessionTravel {
  readonly writesNeedCookie = false;
  readonly endNeedsCookie = false;
  readonly revokesUnseen = false;
  readonly #keys: readonly KeyObject[];
  readonly #idBytes: number;
  readonly #remembered = new BoundedCache<Verified>(REMEMBERED);

  constructor(keys: KeyRing, idBytes: number) {
    this.#keys = keys.keysFor('session-id');
    this.#idBytes = idBytes;
  }

  newIdentity(): Identity {
    const secret = randomBytes(this.#idBytes).toString('base64url');
    return { secret, id: publicId(secret) };
  }

  sign(cookieName: string, secret: string): string {
    return `${secret}.${mac(this.#keys[0], `${cookieName}=${secret}`)}`;
  }

  read(cookieName: string, value: string): Verified | 'malformed' | 'signature' {
    const message = `${cookieName}=${value}`;
    const known = this.#remembered.get(message);
    if (known) return known;
    if (!SHAPE.test(value)) return 'malformed';
    const dot = value.length - 44;
    const secret = value.slice(0, dot);
    const signature = Buffer.from(value.slice(dot + 1));
    const signer = this.#keys.findIndex((key) =>
      timingSafeEqual(Buffer.from(mac(key, `${cookieName}=${secret}`)), signature),
    );
    if (signer === -1) return 'signature';
    const verified = { secret, id: publicId(secret), travel: this, outdated: signer > 0 };
    this.#remembered.set(message, verified);
    return verified;
  }

  values(name: string, { secret }: Identity): readonly string[] {
    return [this.sign(name, secret)];
  }
}
