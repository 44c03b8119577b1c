import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto';

/** Bytes of a nonce: long enough for any number of random nonces. */
export const NONCE_BYTES = 24;
/** Bytes of an authentication tag. */
export const TAG_BYTES = 16;

/**
 * XAES-256-GCM (https://c2sp.org/XAES-256-GCM): AES-256-GCM with a key derived for each nonce. Nonces have 192 bits, so
 * a key may seal any number of messages with random nonces.
 */
export class Xaes256Gcm {
  readonly #key: KeyObject;
  readonly #k1: Buffer;

  constructor(key: KeyObject) {
    this.#key = key;
    this.#k1 = doubled(aes(key, Buffer.alloc(16)));
  }

  /** Returns the ciphertext followed by the tag. */
  seal(nonce: Buffer, plaintext: Buffer, aad: Buffer): Buffer {
    const cipher = createCipheriv('aes-256-gcm', this.#keyOf(nonce), nonce.subarray(12), {
      authTagLength: TAG_BYTES,
    });
    cipher.setAAD(aad);
    return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  }

  /** Returns the plaintext; undefined if a single bit differs from what was sealed. */
  open(nonce: Buffer, sealed: Buffer, aad: Buffer): Buffer | undefined {
    if (sealed.length < TAG_BYTES) return undefined;
    // Without authTagLength, node:crypto accepts tags of only four bytes.
    const decipher = createDecipheriv('aes-256-gcm', this.#keyOf(nonce), nonce.subarray(12), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(aad);
    decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
    try {
      return Buffer.concat([decipher.update(sealed.subarray(0, -TAG_BYTES)), decipher.final()]);
    } catch {
      return undefined;
    }
  }

  /** The key for the first 12 bytes of the nonce: CMAC-based counter mode of SP 800-108, in two blocks. */
  #keyOf(nonce: Buffer): Buffer {
    const blocks = Buffer.alloc(32);
    blocks.set([0, 1, 0x58, 0]);
    blocks.set([0, 2, 0x58, 0], 16);
    nonce.copy(blocks, 4, 0, 12);
    nonce.copy(blocks, 20, 0, 12);
    for (let index = 0; index < 32; index++) blocks[index] ^= this.#k1[index % 16];
    return aes(this.#key, blocks);
  }
}

function aes(key: KeyObject, blocks: Buffer): Buffer {
  return createCipheriv('aes-256-ecb', key, null).setAutoPadding(false).update(blocks);
}

/** Doubles a block in GF(2^128), as CMAC does. */
function doubled(block: Buffer): Buffer {
  const result = Buffer.alloc(16);
  for (let index = 0; index < 16; index++) {
    result[index] = ((block[index] << 1) | ((block[index + 1] ?? 0) >> 7)) & 0xff;
  }
  if (block[0] & 0x80) result[15] ^= 0x87;
  return result;
}
