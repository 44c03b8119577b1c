import { randomBytes } from 'node:crypto';
import type { KeyPurpose, KeyRing } from './key-ring.js';
import { NONCE_BYTES, TAG_BYTES, Xaes256Gcm } from './xaes-256-gcm.js';

/** What was sealed, and whether an older secret than the first did it. */
export interface Opened {
  readonly text: string;
  readonly outdated: boolean;
}

/**
 * Seals text into the value of a cookie:
 *
 *     "1." <key id> "." base64url(nonce ‖ XAES-256-GCM(K, nonce, text, aad))
 *     aad = JSON ["nest-session", 1, <purpose>, <key id>, <cookie name>, <audience>]
 *
 * The version fixes the algorithm, the key id chooses the key, and the associated data keeps a value from being
 * accepted for another purpose, in another cookie, or by another audience. What does not open is nothing: there is no second way to read it.
 */
export class Sealer {
  readonly #keys: ReadonlyMap<string, Xaes256Gcm>;
  readonly #first: string;
  readonly #purpose: KeyPurpose;
  readonly #audience: string;
  readonly #nonces = new Nonces();
  readonly #associations = new Map<string, Buffer>();

  constructor(ring: KeyRing, purpose: KeyPurpose, audience = '') {
    this.#purpose = purpose;
    this.#audience = audience;
    const ids = ring.ids;
    this.#keys = new Map(ring.keysFor(purpose).map((key, index) => [ids[index], new Xaes256Gcm(key)]));
    this.#first = ids[0];
  }

  seal(cookieName: string, text: string): string {
    const nonce = this.#nonces.next();
    const key = this.#keys.get(this.#first) as Xaes256Gcm;
    const sealed = key.seal(nonce, Buffer.from(text), this.#associated(this.#first, cookieName));
    return `1.${this.#first}.${Buffer.concat([nonce, sealed]).toString('base64url')}`;
  }

  open(cookieName: string, value: string): Opened | undefined {
    const [, keyId, encoded] = /^1\.([A-Za-z0-9_-]{8})\.([A-Za-z0-9_-]{54,16384})$/.exec(value) ?? [];
    const key = keyId === undefined ? undefined : this.#keys.get(keyId);
    if (!key) return undefined;
    const bytes = Buffer.from(encoded, 'base64url');
    // Many texts decode to the same bytes; only the one we would have written is ours.
    if (bytes.toString('base64url') !== encoded || bytes.length < NONCE_BYTES + TAG_BYTES) return undefined;
    const plain = key.open(
      bytes.subarray(0, NONCE_BYTES),
      bytes.subarray(NONCE_BYTES),
      this.#associated(keyId, cookieName),
    );
    return plain && { text: plain.toString(), outdated: keyId !== this.#first };
  }

  #associated(keyId: string, cookieName: string): Buffer {
    const names = `${keyId} ${cookieName}`;
    let data = this.#associations.get(names);
    if (!data) {
      const facts = ['nest-session', 1, this.#purpose, keyId, cookieName, this.#audience];
      this.#associations.set(names, (data = Buffer.from(JSON.stringify(facts))));
    }
    return data;
  }
}

/** How many nonces have the same first half. */
const MOST_ALIKE = 65_536;
const HALF = NONCE_BYTES / 2;

/**
 * Nonces of 24 random bytes, of which the first 12, which choose the key, stay the same for a while, so that it need
 * not be derived each time. Under one such key AES-GCM sees 2^16 random nonces at most, of the 2^32 that NIST SP
 * 800-38D (8.3) allows.
 */
class Nonces {
  #half = Buffer.alloc(0);
  #left = 0;
  /** Asking for random bytes costs more than the bytes. */
  #pool = Buffer.alloc(0);
  #at = 0;

  next(): Buffer {
    if (this.#left-- === 0) {
      this.#half = randomBytes(HALF);
      this.#left = MOST_ALIKE - 1;
    }
    if (this.#at === this.#pool.length) {
      this.#pool = randomBytes(HALF * 256);
      this.#at = 0;
    }
    return Buffer.concat([this.#half, this.#pool.subarray(this.#at, (this.#at += HALF))]);
  }
}
