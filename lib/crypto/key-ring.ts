import { createHmac, hkdfSync, type KeyObject, createSecretKey } from 'node:crypto';

/** The purpose of a key. A key derived for one purpose is useless for another (ASVS 5.0 V9.2.2). */
export type KeyPurpose = 'session-id' | 'session' | 'csrf' | 'csrf-visitor' | 'nonce';

/**
 * Derives keys from the application's secrets, which are sorted newest first. Each purpose gets keys of its own:
 * HKDF-SHA256 (RFC 5869) over the secret, no salt, info `nest-session/v1/<purpose>`, 32 bytes.
 */
export class KeyRing {
  readonly #secrets: readonly Buffer[];

  constructor(secrets: readonly Buffer[]) {
    this.#secrets = secrets;
  }

  /** One key for each secret, in the order of the secrets. */
  keysFor(purpose: KeyPurpose): readonly KeyObject[] {
    return this.#secrets.map((secret) => createSecretKey(derive(secret, purpose, 32)));
  }

  /** The id of each secret: eight characters that reveal nothing about it. */
  get ids(): readonly string[] {
    return this.#secrets.map((secret) => derive(secret, 'key-id', 6).toString('base64url'));
  }
}

/** HMAC-SHA256 as 43 characters of base64url. */
export function mac(key: KeyObject, message: string): string {
  return createHmac('sha256', key).update(message).digest('base64url');
}

function derive(secret: Buffer, info: string, bytes: number): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', `nest-session/v1/${info}`, bytes));
}
