import { MemoryStore } from 'nest-session';
import request from 'supertest';
import { onBothAdapters, setCookies } from '../../support/app.js';
import {
  ANONYMOUS,
  closeSites,
  forge,
  keyIdOf,
  payload,
  SECRETS,
  type Site,
  start,
} from '../../support/cookie-site.js';

afterEach(closeSites);

onBothAdapters((adapter) => {
  describe('no session, and no error, is in', () => {
    let site: Site;
    let value: string;
    let other: string;

    beforeEach(async () => {
      site = await start(adapter, { options: { maxAge: '1d' } });
      [value, other] = ['one', 'two'].map((word) =>
        forge(payload(site.clock.now, { data: { secret: `of ${word}` } })),
      );
    });

    /** Those cookies that a session is found in. In process: thousands of requests in the time of one. */
    async function accepted(values: Iterable<string>): Promise<string[]> {
      const found: string[] = [];
      for (const one of values) {
        const session = await site.sessions.open({ headers: { cookie: `session_id=${one}` } });
        if (!session.isNew) found.push(one);
      }
      return found;
    }

    const bytesOf = (one: string): Buffer => Buffer.from(one.split('.')[2], 'base64url');
    const withBytes = (bytes: Buffer): string =>
      [...value.split('.').slice(0, 2), bytes.toString('base64url')].join('.');

    it('the cookies that follow, but for the two that they are made from', async () => {
      expect(await accepted([value, other])).toEqual([value, other]);
      expect(await site.look(`session_id=${value}`)).toMatchObject({ data: { secret: 'of one' } });
    });

    it('a cookie with any bit flipped', async () => {
      const flipped = (bytes: Buffer): Buffer[] =>
        Array.from({ length: bytes.length * 8 }, (_, bit) => {
          const changed = Buffer.from(bytes);
          changed[bit >> 3] ^= 1 << (bit & 7);
          return changed;
        });
      expect(await accepted(flipped(Buffer.from(value)).map((bytes) => bytes.toString('latin1')))).toEqual(
        [],
      );
      expect(await accepted(flipped(bytesOf(value)).map(withBytes))).toEqual([]);
    });

    it('a cookie cut off anywhere, or longer', async () => {
      const cut = Array.from(value, (_, at) => at).flatMap((at) => [value.slice(0, at), value.slice(at + 1)]);
      const more = ['=', 'A', 'AAAA', '.', '~2', '~1', '~', '~5', '~02', '\u00e9', '%00', '"'];
      const longer = more.flatMap((one) => [value + one, one + value]);
      expect(await accepted([...cut, ...longer])).toEqual([]);
    });

    it('two cookies cut and joined: nonces swapped, ciphertexts spliced', async () => {
      const [one, two] = [bytesOf(value), bytesOf(other)];
      const spliced = [...one.keys()].map((cut) => Buffer.concat([one.subarray(0, cut), two.subarray(cut)]));
      // One in 256 times the two end, or begin, alike.
      const forged = spliced.filter((bytes) => !bytes.equals(one) && !bytes.equals(two));
      expect(await accepted(forged.map(withBytes))).toEqual([]);
    });

    it.each([0, 4, 8, 12, 15, 17, 32])('a tag of %i bytes', async (length) => {
      const bytes = bytesOf(value);
      const tag = Buffer.concat([bytes.subarray(-16), Buffer.alloc(16)]).subarray(0, length);
      const forged = withBytes(Buffer.concat([bytes.subarray(0, -16), tag]));
      expect(await site.look(`session_id=${forged}`)).toEqual(ANONYMOUS);
    });

    it('another key id or another version', async () => {
      const [, id, rest] = value.split('.');
      const unknown = keyIdOf(Buffer.alloc(32, 7));
      for (const forged of [
        ...[
          '',
          unknown,
          '__proto__',
          'constructor',
          id.toLowerCase(),
          id.slice(1),
          `${id}A`,
          'A'.repeat(10_000),
        ].map((keyId) => `1.${keyId}.${rest}`),
        ...['', '0', '2', '01', '1 ', '-1', '+1', '10', 'v1'].map((version) => `${version}.${id}.${rest}`),
        `${id}.${rest}`,
        rest,
        `1.${rest}`,
        `1.${id}.`,
        `1..${rest}`,
        '1.',
        '1..',
        '1.~2',
      ]) {
        expect(await site.look(`session_id=${forged}`)).toEqual(ANONYMOUS);
      }
    });

    it('base64 of any other kind, or with spare bits set', async () => {
      const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
      for (const more of ['', 'x', 'xx']) {
        const whole = forge(payload(site.clock.now, { data: { a: `a${more}` } }));
        const [, id, rest] = whole.split('.');
        const spellings = [
          ...Array.from(alphabet, (last) => rest.slice(0, -1) + last),
          `${rest}=`,
          `${rest}==`,
          `${rest.slice(0, 20)} ${rest.slice(20)}`,
          `${rest}%3D`,
          Buffer.from(rest, 'base64url').toString('base64'),
        ];
        expect(await accepted(new Set(spellings.map((one) => `1.${id}.${one}`)))).toEqual([whole]);
      }
    });

    it('the cookie of another name', async () => {
      const text = payload(site.clock.now, { data: { secret: 'of one' } });
      for (const name of [
        '__Host-session_id',
        'Session_id',
        'session_id_visitor',
        'session_id.1',
        'sid',
        '',
      ]) {
        expect(await site.look(`session_id=${forge(text, { name })}`)).toEqual(ANONYMOUS);
      }
      // A plain request is not told what a Secure one is.
      expect(await site.look(`__Host-session_id=${forge(text, { name: '__Host-session_id' })}`)).toEqual(
        ANONYMOUS,
      );
    });

    it('the cookie of another application: of another audience or another secret', async () => {
      const text = payload(site.clock.now, { data: { secret: 'of one' } });
      for (const from of [{ audience: 'blog' }, { secret: SECRETS[0] }]) {
        expect(await site.look(`session_id=${forge(text, from)}`)).toEqual(ANONYMOUS);
      }
      const blog = await start(adapter, { store: { audience: 'blog' }, clock: site.clock });
      expect(await blog.look(`session_id=${value}`)).toEqual(ANONYMOUS);
      expect(await blog.look(`session_id=${forge(text, { audience: 'blog' })}`)).toMatchObject({
        data: { secret: 'of one' },
      });
    });

    it('what was sealed for another purpose', async () => {
      const text = payload(site.clock.now, { data: { secret: 'of one' } });
      for (const purpose of ['csrf-visitor', 'csrf', 'session-id']) {
        expect(await site.look(`session_id=${forge(text, { purpose })}`)).toEqual(ANONYMOUS);
      }
    });

    it("a visitor's CSRF cookie; nor is a session a CSRF cookie", async () => {
      const visitor = site.browser();
      const { token } = (await visitor.get('/form')).body as { token: string };
      const sealed = visitor.cookies.get('session_id_visitor') as string;
      expect(sealed).toMatch(/^1\./);
      expect(await site.look(`session_id=${sealed}`)).toEqual(ANONYMOUS);

      for (const forged of [value, forge(payload(site.clock.now), { name: 'session_id_visitor' })]) {
        const sent = request(site.url).post('/guarded').set('Cookie', `session_id_visitor=${forged}`);
        await sent.set('X-CSRF-Token', token).expect(403);
      }
    });

    it('a session by reference; nor is one by value anything to an application with a store', async () => {
      const byReference = await start(adapter, {
        store: new MemoryStore({ clock: site.clock.read }),
        clock: site.clock,
      });
      const [here, there] = [site.browser(), byReference.browser()];
      await here.get('/set?a=here');
      await there.get('/set?a=there');
      expect(await site.look(there.cookie as string)).toEqual(ANONYMOUS);
      expect(await byReference.look(here.cookie as string)).toEqual(ANONYMOUS);
      // And each begins anew with it.
      for (const [one, browser] of [
        [site, there],
        [byReference, here],
      ] as const) {
        const lost = one.browserWith(browser.cookies);
        await lost.get('/set?a=anew');
        expect(await one.look(lost.cookie as string)).toMatchObject({ data: { a: 'anew' } });
      }
    });

    it('two cookies of one name', async () => {
      expect(await site.look(`session_id=${value}; session_id=${value}`)).toEqual(ANONYMOUS);
      expect(await site.look(`session_id=${value}; session_id=${other}`)).toEqual(ANONYMOUS);
      expect(await site.look(`session_id=junk; session_id=${value}`)).toEqual(ANONYMOUS);
    });

    it.each([
      ['text', 'hello'],
      ['null', 'null\n'],
      ['a list', '[]\n'],
      ['an object', '{"v":1,"data":{"userId":"admin"}}'],
      ['no times', '[1,"s",null]\n'],
      ['times of 1e99', '[1,1e99,1e99,1e99,1e99,"s",null]\n'],
      ['negative times', '[1,-1,-1,-1,-1,"s",null]\n'],
      ['times that are text', '[1,"0","0","0","9999999999999","s",null]\n'],
      ['lengths that overrun', '[1,0,0,0,9999999999999,"s",null,"data:a",9]\n1'],
      ['ten thousand levels', `${'['.repeat(10_000)}\n`],
      ['__proto__', '{"__proto__":{"userId":"admin"}}\n'],
    ])('a payload that is well sealed and holds %s', async (_, sealed) => {
      expect(await site.look(`session_id=${forge(sealed)}`)).toEqual(ANONYMOUS);
      expect(({} as Record<string, unknown>).userId).toBeUndefined();
    });

    it('ten thousand cookies at random', async () => {
      const [, id] = value.split('.');
      const alphabet = 'ABCabc012-_.~%=; \u00e9';
      const random = (below: number): number => Math.floor(Math.random() * below);
      const candidates = Array.from({ length: 10_000 }, (_, round) => {
        const noise = Array.from({ length: random(120) }, () => alphabet[random(alphabet.length)]).join('');
        const bytes = Buffer.from(Array.from({ length: random(200) }, () => random(256))).toString(
          'base64url',
        );
        const cut = random(value.length - 10); // no noise makes up for ten characters
        return [
          noise,
          `1.${noise}`,
          `1.${id}.${noise}`,
          `1.${id}.${bytes}`,
          `1.${id}.${bytes}~${random(6)}`,
          `${value.slice(0, cut)}${noise}${value.slice(random(value.length))}`,
          `${value.slice(0, cut)}~${random(6)}; session_id.1=${noise}; session_id.2=${bytes}`,
        ][round % 7];
      });
      expect(await accepted(candidates.filter((candidate) => candidate !== value))).toEqual([]);
    });

    it('a cookie that was rejected, and the log and the events say no more of it than why', async () => {
      site.events.length = 0;
      const changed = `${value.slice(0, -4)}${value.endsWith('AAAA') ? 'BBBB' : 'AAAA'}`;
      await site.look(`session_id=${changed}`);
      await site.look(`session_id=${value}~2`);
      await site.look(`session_id=${value}; session_id=${value}`);
      expect(site.events).toEqual([
        { type: 'rejected', reason: 'signature' },
        { type: 'rejected', reason: 'malformed' },
        { type: 'rejected', reason: 'duplicate' },
      ]);
      expect(site.log.join()).not.toContain(value.slice(20, 60));
    });

    it('and such a cookie is neither deleted nor replaced by a mere look', async () => {
      for (const forged of ['junk', `${value}x`, forge(payload(site.clock.now), { audience: 'blog' })]) {
        const response = await request(site.url).get('/look').set('Cookie', `session_id=${forged}`);
        expect(setCookies(response)).toEqual([]);
      }
    });
  });
});
