import { createHmac, type KeyObject, randomBytes } from 'node:crypto';
import type { KeyPurpose, KeyRing } from './key-ring.js';
import { NONCE_BYTES, TAG_BYTES, Xaes256Gcm } from './xaes-256-gcm.js';

/** The text of a sealed value. `outdated` is true if it was sealed with a secret other than the first. */
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
 * The version fixes the algorithm. The key id chooses the key. The associated data keeps a value from being accepted
 * for another purpose, in another cookie or by another audience. A value that does not open is not read any other way.
 */
export class Sealer {
  readonly #keys: ReadonlyMap<string, Xaes256Gcm>;
  readonly #first: string;
  readonly #purpose: KeyPurpose;
  readonly #audience: string;
  readonly #nonceKey: KeyObject;
  readonly #associations = new Map<string, Buffer>();

  constructor(ring: KeyRing, purpose: KeyPurpose, audience = '') {
    this.#purpose = purpose;
    this.#audience = audience;
    const ids = ring.ids;
    this.#keys = new Map(ring.keysFor(purpose).map((key, index) => [ids[index], new Xaes256Gcm(key)]));
    this.#first = ids[0];
    this.#nonceKey = ring.keysFor('nonce')[0];
  }

  seal(cookieName: string, text: string): string {
    const key = this.#keys.get(this.#first) as Xaes256Gcm;
    const plaintext = Buffer.from(text);
    const associated = this.#associated(this.#first, cookieName);
    const nonce = this.#newNonce(associated, plaintext);
    const sealed = key.seal(nonce, plaintext, associated);
    return `1.${this.#first}.${Buffer.concat([nonce, sealed]).toString('base64url')}`;
  }

  /** The text that `seal()` was given; undefined for any other value. */
  open(cookieName: string, value: string): Opened | undefined {
    const [, keyId, encoded] = /^1\.([A-Za-z0-9_-]{8})\.([A-Za-z0-9_-]{54,16384})$/.exec(value) ?? [];
    const key = keyId === undefined ? undefined : this.#keys.get(keyId);
    if (!key) return undefined;
    const bytes = Buffer.from(encoded, 'base64url');
    // Several base64url texts decode to the same bytes. Only the one that `seal()` writes is accepted.
    if (bytes.toString('base64url') !== encoded || bytes.length < NONCE_BYTES + TAG_BYTES) return undefined;
    const plain = key.open(
      bytes.subarray(0, NONCE_BYTES),
      bytes.subarray(NONCE_BYTES),
      this.#associated(keyId, cookieName),
    );
    return plain && { text: plain.toString(), outdated: keyId !== this.#first };
  }

  /**
   * The first 192 bits of HMAC-SHA256(K, 24 random bytes ‖ aad ‖ text), with K the key for `nonce`. The random bytes
   * are drawn anew for each nonce. Processes cloned from one snapshot draw the same bytes for a while, because the
   * generator of OpenSSL is cloned too. With aad and text in the HMAC, equal nonces then mean equal messages.
   */
  #newNonce(associated: Buffer, plaintext: Buffer): Buffer {
    return createHmac('sha256', this.#nonceKey)
      .update(randomBytes(NONCE_BYTES))
      .update(associated)
      .update(plaintext)
      .digest()
      .subarray(0, NONCE_BYTES);
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
