import { execFile } from 'node:child_process';
import { createHash, createSecretKey, hkdfSync } from 'node:crypto';
import { promisify } from 'node:util';
import { KeyRing } from '../../lib/crypto/key-ring.js';
import { Sealer } from '../../lib/crypto/sealer.js';
import { Xaes256Gcm } from '../../lib/crypto/xaes-256-gcm.js';

const run = promisify(execFile);

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

describe('the building blocks of a sealed cookie', () => {
  // security.md §4.2, "Known answers"
  const master = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
  const nonce = Buffer.from(Array.from({ length: 24 }, (_, index) => 0xa0 + index));
  const payload =
    '{"v":1,"id":"AAAAAAAAAAAAAAAAAAAAAA","iat":1767225600,"exp":1767268800,"seen":1767225600,"data":{"user":1}}';
  const aad = Buffer.from(JSON.stringify(['nestjs-session', 1, 'k1', '__Host-Http-sid', '']));
  const token =
    'oKGio6SlpqeoqaqrrK2ur7CxsrO0tba3r4leJ8U45Me8DFxXyjIMdE3REzQ3bP7cQq9JpTQVsqwpTWAebyYXDOdYENCk-DCyI-voe4iHN2VK' +
    'vkGk3hT0A4UXaNq4zn3fURKSldXBqOOPO-LgnLet28ROC5g02rXqbrtQQ3vYlolw8RQmGILhThxK0fKftjHXQo6b';
  const key = Buffer.from(hkdfSync('sha256', master, '', 'nestjs-session/v1/cookie-enc', 32));

  it('derive the key of the known answer', () => {
    expect(key.toString('hex')).toBe('38a0502f93700207a5207334ca38a4ea00616f9401eb911b272bb8b14bdfce9c');
  });

  it('seal and open the known answer', () => {
    const sealed = xaes(key).seal(nonce, Buffer.from(payload), aad);
    expect(Buffer.concat([nonce, sealed]).toString('base64url')).toBe(token);
    expect(xaes(key).open(nonce, sealed, aad)?.toString()).toBe(payload);
  });

  it('do not open it under other associated data, another nonce or another key', () => {
    const sealed = Buffer.from(token, 'base64url').subarray(24);
    const otherNonce = Buffer.from(nonce);
    for (const index of nonce.keys()) {
      nonce.copy(otherNonce);
      otherNonce[index] ^= 1;
      expect(xaes(key).open(otherNonce, sealed, aad)).toBeUndefined();
    }
    expect(xaes(key).open(nonce, sealed, Buffer.concat([aad, Buffer.from(' ')]))).toBeUndefined();
    expect(xaes(key).open(nonce, sealed, Buffer.alloc(0))).toBeUndefined();
    expect(xaes(master).open(nonce, sealed, aad)).toBeUndefined();
  });

  it('are what a Sealer is made of: its value opens by them alone, and says its key, purpose, cookie and audience', () => {
    const value = new Sealer(new KeyRing([master]), 'session', 'shop').seal('__Host-session_id', payload);
    const [version, keyId, encoded] = value.split('.');
    const bytes = Buffer.from(encoded, 'base64url');
    const derived = Buffer.from(hkdfSync('sha256', master, '', 'nest-session/v1/session', 32));
    const associated = ['nest-session', 1, 'session', keyId, '__Host-session_id', 'shop'];
    const open = (of: unknown[]) =>
      xaes(derived).open(bytes.subarray(0, 24), bytes.subarray(24), Buffer.from(JSON.stringify(of)));
    expect(version).toBe('1');
    expect(keyId).toBe(
      Buffer.from(hkdfSync('sha256', master, '', 'nest-session/v1/key-id', 6)).toString('base64url'),
    );
    expect(open(associated)?.toString()).toBe(payload);
    for (const index of associated.keys()) {
      expect(open(associated.map((part, at) => (at === index ? `${part}x` : part)))).toBeUndefined();
      expect(open(associated.filter((_, at) => at !== index))).toBeUndefined();
    }
  });

  it('have a key of its own for each purpose', () => {
    const ring = new KeyRing([master]);
    const purposes = ['session-id', 'session', 'csrf', 'csrf-visitor', 'nonce'] as const;
    const keys = purposes.map((purpose) => ring.keysFor(purpose)[0].export().toString('hex'));
    expect(new Set([...keys, master.toString('hex')]).size).toBe(purposes.length + 1);
  });
});

describe('a sealed value', () => {
  const older = Buffer.alloc(32, 1);
  const newer = Buffer.alloc(32, 2);
  const sealer = new Sealer(new KeyRing([newer, older]), 'csrf-visitor');
  const nonceOf = (value: string): Buffer => Buffer.from(value.split('.')[2], 'base64url').subarray(0, 24);

  it('opens to what was sealed, with a nonce of its own each time', () => {
    const [one, two] = [sealer.seal('name', 'text ünïcödé'), sealer.seal('name', 'text ünïcödé')];
    expect(one).not.toBe(two);
    expect(one).toMatch(/^1\.[A-Za-z0-9_-]{8}\.[A-Za-z0-9_-]+$/);
    expect(sealer.open('name', one)).toEqual({ text: 'text ünïcödé', outdated: false });
  });

  it('has a nonce of which every part is new each time', () => {
    const nonces = Array.from({ length: 1000 }, () => nonceOf(sealer.seal('name', 'text')));
    for (let at = 0; at < 24; at += 6) {
      expect(new Set(nonces.map((nonce) => nonce.toString('hex', at, at + 6))).size).toBe(nonces.length);
    }
  });

  it('shares its nonce with no other, also where the process was cloned, and the generator with it', async () => {
    // A clone goes on with OpenSSL's generator as the snapshot had it. So here random bytes come from a stream that begins
    // alike in each process.
    const clone = async (user: string): Promise<string[]> => {
      const script = `
        import crypto from 'node:crypto';
        import { syncBuiltinESMExports } from 'node:module';
        let drawn = 0;
        crypto.randomBytes = (length) =>
          crypto.createHash('shake256', { outputLength: length }).update(String(drawn++)).digest();
        syncBuiltinESMExports();
        const { Sealer } = await import('./dist/crypto/sealer.js');
        const { KeyRing } = await import('./dist/crypto/key-ring.js');
        const sealer = new Sealer(new KeyRing([Buffer.alloc(32, 2)]), 'csrf-visitor');
        const values = [sealer.seal('name', 'the same')];
        for (let index = 0; index < 400; index++) values.push(sealer.seal('name', '${user} ' + index));
        console.log(JSON.stringify(values));
      `;
      const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script]);
      return JSON.parse(stdout) as string[];
    };
    const [one, two] = await Promise.all([clone('alice'), clone('bob')]);
    // They are clones: where they do the same, the same comes of it.
    expect(one[0]).toBe(two[0]);
    expect([one[400], two[400]].map((value) => sealer.open('name', value)?.text)).toEqual([
      'alice 399',
      'bob 399',
    ]);
    const nonces = [...one, ...two.slice(1)].map((value) => nonceOf(value).toString('hex'));
    expect(new Set(nonces).size).toBe(801);
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

  it('opens for no other audience, none included', () => {
    const ring = new KeyRing([newer]);
    const [shop, blog, nobody] = ['shop', 'blog', undefined].map((one) => new Sealer(ring, 'session', one));
    expect(shop.open('name', shop.seal('name', 'text'))?.text).toBe('text');
    expect(blog.open('name', shop.seal('name', 'text'))).toBeUndefined();
    expect(nobody.open('name', shop.seal('name', 'text'))).toBeUndefined();
    expect(shop.open('name', nobody.seal('name', 'text'))).toBeUndefined();
  });

  it('does not open where name and audience only read the same when joined', () => {
    const ring = new KeyRing([newer]);
    const pairs = [
      ['ab', 'c'],
      ['a', 'bc'],
      ['a","b', 'c'],
      ['a', 'b","c'],
      ['abc', ''],
    ];
    for (const [name, audience] of pairs) {
      const value = new Sealer(ring, 'session', audience).seal(name, 'text');
      const opening = pairs.filter(([otherName, other]) =>
        new Sealer(ring, 'session', other).open(otherName, value),
      );
      expect(opening).toEqual([[name, audience]]);
    }
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

  it('with any bit flipped is nothing', () => {
    const value = sealer.seal('name', 'text');
    for (let bit = 0; bit < value.length * 8; bit++) {
      const bytes = Buffer.from(value);
      bytes[bit >> 3] ^= 1 << (bit & 7);
      expect(sealer.open('name', bytes.toString('latin1'))).toBeUndefined();
    }
    const [version, id, rest] = value.split('.');
    const sealed = Buffer.from(rest, 'base64url');
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const bytes = Buffer.from(sealed);
      bytes[bit >> 3] ^= 1 << (bit & 7);
      expect(sealer.open('name', `${version}.${id}.${bytes.toString('base64url')}`)).toBeUndefined();
    }
  });

  it.each([0, 4, 8, 12, 15, 17, 32])('with a tag of %i bytes is nothing', (length) => {
    const [version, id, rest] = sealer.seal('name', 'a text of some length').split('.');
    const bytes = Buffer.from(rest, 'base64url');
    const tag = Buffer.concat([bytes.subarray(-16), Buffer.alloc(16)]).subarray(0, length);
    const forged = Buffer.concat([bytes.subarray(0, -16), tag]).toString('base64url');
    expect(sealer.open('name', `${version}.${id}.${forged}`)).toBeUndefined();
  });

  it('put together from two is nothing', () => {
    const [one, two] = ['one text', 'two text'].map((text) => {
      const [, , rest] = sealer.seal('name', text).split('.');
      return Buffer.from(rest, 'base64url');
    });
    const [id] = new KeyRing([newer]).ids;
    for (let cut = 1; cut < one.length; cut++) {
      const bytes = Buffer.concat([one.subarray(0, cut), two.subarray(cut)]);
      if (bytes.equals(one) || bytes.equals(two)) continue; // one in 256 times they end, or begin, alike
      const spliced = bytes.toString('base64url');
      expect(sealer.open('name', `1.${id}.${spliced}`)).toBeUndefined();
    }
  });

  it('has one spelling: bits that base64url leaves over are not ours to choose', () => {
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    for (const text of ['a', 'ab', 'abc']) {
      const value = sealer.seal('name', text);
      const spellings = [...alphabet].filter((last) => sealer.open('name', value.slice(0, -1) + last));
      expect(spellings).toEqual([value.at(-1)]);
    }
  });

  it('is named by an id that says nothing of the key', () => {
    const [id] = new KeyRing([older]).ids;
    expect(id).toHaveLength(8);
    expect(older.toString('base64url')).not.toContain(id);
  });
});
