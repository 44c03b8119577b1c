import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

const SALT_BYTES = 16;

/**
 * A fresh token under a secret: 64 characters of base64url,
 *
 *     salt(16) ‖ HMAC-SHA256(secret, "csrf/v1" 0 salt 0 "*")
 *
 * No two renderings share a byte that compression could be made to betray (BREACH), and a token tells nothing of the
 * secret or of other tokens.
 */
export function mintToken(secret: Buffer, salt: Buffer = randomBytes(SALT_BYTES)): string {
  return Buffer.concat([salt, sign(secret, salt)]).toString('base64url');
}

/** Whether a token was minted under the secret. 64 characters decode to 48 bytes with no bit left over. */
export function tokenMatches(secret: Buffer, token: string): boolean {
  if (!/^[A-Za-z0-9_-]{64}$/.test(token)) return false;
  const bytes = Buffer.from(token, 'base64url');
  return timingSafeEqual(sign(secret, bytes.subarray(0, SALT_BYTES)), bytes.subarray(SALT_BYTES));
}

function sign(secret: Buffer, salt: Buffer): Buffer {
  return createHmac('sha256', secret).update('csrf/v1\0').update(salt).update('\0*').digest();
}
