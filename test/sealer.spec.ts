import { createHash, createSecretKey } from 'node:crypto';
import { KeyRing } from '../lib/crypto/key-ring.js';
import { Sealer } from '../lib/crypto/sealer.js';
import { Xaes256Gcm } from '../lib/crypto/xaes-256-gcm.js';

const xaes = (key: Buffer): Xaes256Gcm => new Xaes256Gcm(createSecretKey(key));

describe('XAES-256-GCM', () => {
  const nonce = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWX');
  const text = Buffer.from('XAES-256-GCM');

  // https://c2sp.org/XAES-256-GCM, "Test vectors"
  it.each([
    [1, '', 'ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271'],
    [3, 'c2sp.org/XAES-256-GCM', '986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d'],
  ])('reproduces the vector of key %i', (byte, aad, expected) => {
    const sealer = xaes(Buffer.alloc(32, byte));
    const sealed = sealer.seal(nonce, text, Buffer.from(aad));
    expect(sealed.toString('hex')).toBe(expected);
    expect(sealer.open(nonce, sealed, Buffer.from(aad))).toEqual(text);
  });

  it('reproduces the accumulated vector of 10 000 messages', () => {
    const stream = createHash('shake128', { outputLength: 4_000_000 }).digest();
    const ciphertexts = createHash('shake128', { outputLength: 32 });
    let at = 0;
    let opened = true;
    const take = (bytes: number): Buffer => stream.subarray(at, (at += bytes));
    for (let message = 0; message < 10_000; message++) {
      const sealer = xaes(take(32));
      const messageNonce = take(24);
      const plaintext = take(take(1)[0]);
      const aad = take(take(1)[0]);
      const sealed = sealer.seal(messageNonce, plaintext, aad);
      ciphertexts.update(sealed);
      opened &&= sealer.open(messageNonce, sealed, aad)?.equals(plaintext) ?? false;
    }
    expect(at).toBeLessThan(stream.length);
    expect(opened).toBe(true);
    expect(ciphertexts.digest('hex')).toBe(
      'e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939',
    );
  });

  it('opens nothing with a tag cut short, at any length', () => {
    const sealer = xaes(Buffer.alloc(32, 1));
    const sealed = sealer.seal(nonce, text, Buffer.alloc(0));
    for (let length = 0; length < sealed.length; length++) {
      expect(sealer.open(nonce, sealed.subarray(0, length), Buffer.alloc(0))).toBeUndefined();
    }
  });
});

describe('a sealed value', () => {
  const older = Buffer.alloc(32, 1);
  const newer = Buffer.alloc(32, 2);
  const sealer = new Sealer(new KeyRing([newer, older]), 'csrf-visitor');

  it('opens to what was sealed, with a nonce of its own each time', () => {
    const [one, two] = [sealer.seal('name', 'text ünïcödé'), sealer.seal('name', 'text ünïcödé')];
    expect(one).not.toBe(two);
    expect(one).toMatch(/^1\.[A-Za-z0-9_-]{8}\.[A-Za-z0-9_-]+$/);
    expect(sealer.open('name', one)).toEqual({ text: 'text ünïcödé', outdated: false });
  });

  it('of an older secret opens, and is told to be; of a dropped one it does not', () => {
    const value = new Sealer(new KeyRing([older]), 'csrf-visitor').seal('name', 'text');
    expect(sealer.open('name', value)).toEqual({ text: 'text', outdated: true });
    expect(new Sealer(new KeyRing([newer]), 'csrf-visitor').open('name', value)).toBeUndefined();
  });

  it('opens in no other cookie, and for no other purpose', () => {
    const value = sealer.seal('name', 'text');
    expect(sealer.open('Name', value)).toBeUndefined();
    expect(sealer.open('__Host-name', value)).toBeUndefined();
    expect(new Sealer(new KeyRing([newer]), 'csrf').open('name', value)).toBeUndefined();
  });

  it('with any character changed, cut off or added is nothing', () => {
    const value = sealer.seal('name', 'text');
    for (let index = 0; index < value.length; index++) {
      const other = value[index] === 'A' ? 'B' : 'A';
      expect(sealer.open('name', value.slice(0, index) + other + value.slice(index + 1))).toBeUndefined();
      expect(sealer.open('name', value.slice(0, index))).toBeUndefined();
    }
    const [version, id, rest] = value.split('.');
    for (const forged of [
      ...[
        `${value}=`,
        `${value}A`,
        `${value}\n`,
        ` ${value}`,
        rest,
        `${id}.${rest}`,
        `2.${id}.${rest}`,
        `01.${id}.${rest}`,
      ],
      ...['__proto__', 'constructor', '', 'x'.repeat(8), 'x'.repeat(10_000)].map(
        (key) => `${version}.${key}.${rest}`,
      ),
      `${version}.${id}.${Buffer.from(rest, 'base64url').toString('base64')}`,
      `${version}.${id}.${'A'.repeat(100_000)}`,
    ]) {
      expect(sealer.open('name', forged)).toBeUndefined();
    }
  });

  it('is named by an id that says nothing of the key', () => {
    const [id] = new KeyRing([older]).ids;
    expect(id).toHaveLength(8);
    expect(older.toString('base64url')).not.toContain(id);
  });
});
