import { createHash } from 'node:crypto';
import { type CsrfEvidence, isSafe, refusal } from '../../lib/csrf/csrf-decision.js';
import { originOfHost } from '../../lib/util/origin.js';
import { mintToken, tokenMatches } from '../../lib/csrf/csrf-token.js';

const OWN = 'https://app.example';
const TRUSTED = 'https://partner.example:8443';

const nothing: CsrfEvidence = {
  methods: ['POST'],
  fetchSite: [],
  origin: [],
  referer: [],
  own: OWN,
  token: 'valid',
};

const rules = { mode: 'both', trustedOrigins: new Set([TRUSTED]), multipart: 'header' } as const;

describe('the headers', () => {
  describe('with a valid token, in mode both', () => {
    it.each<[string, Partial<CsrfEvidence>, string | undefined]>([
      ['nothing at all', {}, undefined],
      ['our own page', { fetchSite: ['same-origin'] }, undefined],
      ['our own page under no-referrer', { fetchSite: ['same-origin'], origin: ['null'] }, undefined],
      ['the user, who typed it', { fetchSite: ['none'] }, undefined],
      ['another site', { fetchSite: ['cross-site'], origin: ['https://evil.example'] }, 'fetch-site'],
      ['another site that hides its origin', { fetchSite: ['cross-site'], origin: ['null'] }, 'fetch-site'],
      ['another site without an origin', { fetchSite: ['cross-site'] }, 'fetch-site'],
      ['another site that claims our origin', { fetchSite: ['cross-site'], origin: [OWN] }, 'fetch-site'],
      ['a sister site', { fetchSite: ['same-site'], origin: ['https://blog.app.example'] }, 'fetch-site'],
      ['a trusted site', { fetchSite: ['cross-site'], origin: [TRUSTED] }, undefined],
      ['a trusted sister site', { fetchSite: ['same-site'], origin: [TRUSTED] }, undefined],
      ['a trusted site, twice', { fetchSite: ['cross-site'], origin: [TRUSTED, TRUSTED] }, 'fetch-site'],
      ['Sec-Fetch-Site twice', { fetchSite: ['same-origin', 'same-origin'] }, 'fetch-site'],
      ['Sec-Fetch-Site joined', { fetchSite: ['same-origin, cross-site'] }, 'fetch-site'],
      ['Sec-Fetch-Site in capitals', { fetchSite: ['Same-Origin'] }, 'fetch-site'],
      ['Sec-Fetch-Site of the future', { fetchSite: ['same-planet'] }, 'fetch-site'],
      ['an empty Sec-Fetch-Site', { fetchSite: [''] }, undefined],
      [
        'an empty Sec-Fetch-Site and another origin',
        { fetchSite: [''], origin: ['https://evil.example'] },
        'origin',
      ],
      ['our origin', { origin: [OWN] }, undefined],
      ['our origin over http', { origin: ['http://app.example'] }, 'origin'],
      ['our origin on another port', { origin: ['https://app.example:8443'] }, 'origin'],
      ['our origin with its port spelt out', { origin: ['https://app.example:443'] }, 'origin'],
      ['our origin with a port of odd spelling', { origin: ['https://app.example:0443'] }, 'origin'],
      ['our origin in capitals', { origin: ['https://APP.example'] }, 'origin'],
      ['our origin and a path', { origin: ['https://app.example/'] }, 'origin'],
      ['our host as a user name', { origin: ['https://app.example@evil.example'] }, 'origin'],
      ['our host before another', { origin: ['https://app.example.evil.example'] }, 'origin'],
      ['a look-alike', { origin: ['https://аpp.example'] }, 'origin'],
      ['Origin: null', { origin: ['null'] }, 'origin'],
      ['an empty Origin', { origin: [''] }, 'origin'],
      ['two Origins', { origin: [OWN, OWN] }, 'origin'],
      ['joined Origins', { origin: [`${OWN}, ${OWN}`] }, 'origin'],
      ['a trusted origin', { origin: [TRUSTED] }, undefined],
      ['a trusted origin over http', { origin: [TRUSTED.replace('https', 'http')] }, 'origin'],
      ['a trusted host on another port', { origin: ['https://partner.example'] }, 'origin'],
      ['an address', { origin: ['https://[::1]'] }, 'origin'],
      ['a file', { origin: ['file://'] }, 'origin'],
      ['an extension', { origin: ['chrome-extension://abcdef'] }, 'origin'],
      ['junk of 10 kB', { origin: ['x'.repeat(10_000)] }, 'origin'],
      [
        'an Origin of ours and a Referer elsewhere',
        { origin: [OWN], referer: ['https://evil.example/'] },
        undefined,
      ],
      [
        'an Origin elsewhere and a Referer of ours',
        { origin: ['https://evil.example'], referer: [`${OWN}/`] },
        'origin',
      ],
      ['our page as Referer', { referer: [`${OWN}/page?x=1`] }, undefined],
      ['our origin as Referer', { referer: [OWN] }, undefined],
      ['another page as Referer', { referer: ['https://evil.example/?https://app.example'] }, 'referer'],
      ['our page over http as Referer', { referer: ['http://app.example/page'] }, 'referer'],
      ['a trusted page as Referer', { referer: [`${TRUSTED}/page`] }, undefined],
      ['a Referer that is no URL', { referer: ['app.example'] }, 'referer'],
      ['an opaque Referer', { referer: ['about:blank'] }, 'referer'],
      ['two Referers', { referer: [`${OWN}/`, `${OWN}/`] }, 'referer'],
      ['an empty Referer', { referer: [''] }, undefined],
      ['our origin where our own is not known', { own: undefined, origin: [OWN] }, 'origin'],
      ['an undefined origin where our own is not known', { own: undefined, origin: ['undefined'] }, 'origin'],
    ])('%s', (_, evidence, expected) => {
      expect(refusal({ ...nothing, ...evidence }, rules)).toBe(expected);
    });
  });

  it('object in every mode, whatever the token', () => {
    for (const mode of ['both', 'auto', 'origin-only'] as const) {
      for (const token of ['valid', 'invalid', 'missing', 'unread'] as const) {
        const evidence = { ...nothing, token, fetchSite: ['cross-site'] };
        expect(refusal(evidence, { ...rules, mode })).toBe('fetch-site');
      }
    }
  });
});

describe('the token, by mode and proof', () => {
  const sameOrigin = { fetchSite: ['same-origin'] };
  const byOrigin = { origin: [OWN] };
  const typed = { fetchSite: ['none'] };
  const trusted = { fetchSite: ['cross-site'], origin: [TRUSTED] };

  it.each<['both' | 'auto' | 'origin-only', string, Partial<CsrfEvidence>, (string | undefined)[]]>([
    ['both', 'our own page', sameOrigin, [undefined, 'token-invalid', 'token-missing']],
    ['both', 'our own origin', byOrigin, [undefined, 'token-invalid', 'token-missing']],
    ['both', 'the user', typed, [undefined, 'token-invalid', 'token-missing']],
    ['both', 'a trusted site', trusted, [undefined, 'token-invalid', 'token-missing']],
    ['both', 'nothing', {}, [undefined, 'token-invalid', 'token-missing']],
    ['auto', 'our own page', sameOrigin, [undefined, undefined, undefined]],
    ['auto', 'our own origin', byOrigin, [undefined, undefined, undefined]],
    ['auto', 'the user', typed, [undefined, 'token-invalid', 'token-missing']],
    ['auto', 'a trusted site', trusted, [undefined, 'token-invalid', 'token-missing']],
    ['auto', 'nothing', {}, [undefined, 'token-invalid', 'token-missing']],
    ['origin-only', 'our own page', sameOrigin, [undefined, undefined, undefined]],
    ['origin-only', 'our own origin', byOrigin, [undefined, undefined, undefined]],
    ['origin-only', 'the user', typed, [undefined, undefined, undefined]],
    ['origin-only', 'a trusted site', trusted, [undefined, undefined, undefined]],
    ['origin-only', 'nothing', {}, ['no-proof', 'no-proof', 'no-proof']],
  ])('mode %s, %s: valid, invalid, missing', (mode, _, evidence, expected) => {
    const outcomes = (['valid', 'invalid', 'missing'] as const).map((token) =>
      refusal({ ...nothing, ...evidence, token }, { ...rules, mode }),
    );
    expect(outcomes).toEqual(expected);
  });

  it.each<['header' | 'same-origin', string, Partial<CsrfEvidence>, string | undefined]>([
    ['header', 'our own page', sameOrigin, 'token-missing'],
    ['header', 'nothing', {}, 'token-missing'],
    ['same-origin', 'our own page', sameOrigin, undefined],
    ['same-origin', 'our own origin', byOrigin, undefined],
    ['same-origin', 'the user', typed, 'token-missing'],
    ['same-origin', 'a trusted site', trusted, 'token-missing'],
    ['same-origin', 'nothing', {}, 'token-missing'],
  ])('an unread multipart body with multipart: %s, from %s', (multipart, _, evidence, expected) => {
    expect(refusal({ ...nothing, ...evidence, token: 'unread' }, { ...rules, multipart })).toBe(expected);
  });
});

describe('a safe method', () => {
  it.each(['GET', 'HEAD', 'OPTIONS'])('is %s', (method) => expect(isSafe([method])).toBe(true));

  it.each(['POST', 'PUT', 'PATCH', 'DELETE', 'QUERY', 'TRACE', 'CONNECT', 'get', 'PROPFIND', ''])(
    'is not %j',
    (method) => expect(isSafe([method])).toBe(false),
  );

  it('is none that overrides another, in either direction', () => {
    expect(isSafe(['POST', 'GET'])).toBe(false);
    expect(isSafe(['GET', 'POST'])).toBe(false);
    expect(isSafe(['GET', 'HEAD'])).toBe(true);
  });
});

describe('our own origin', () => {
  it.each([
    ['https', 'app.example', 'https://app.example'],
    ['https', 'app.example:443', 'https://app.example'],
    ['http', 'app.example:8080', 'http://app.example:8080'],
    ['http', '[::1]:3000', 'http://[::1]:3000'],
    ['http', 'APP.example', 'http://app.example'],
  ])('%s, %s', (scheme, host, origin) => expect(originOfHost(scheme, host)).toBe(origin));

  it.each([
    undefined,
    ...[
      '',
      'app.example/abc?x=',
      'app.example#',
      'user@app.example',
      'a b',
      'a\\b',
      ':80',
      'app.example:99999',
    ],
  ])('is not known from a Host of %j', (host) => expect(originOfHost('https', host)).toBeUndefined());
});

describe('a token', () => {
  const secret = Buffer.alloc(32, 9);

  it('is what it was when it was specified', () => {
    expect(mintToken(secret, Buffer.alloc(16, 5))).toBe(
      'BQUFBQUFBQUFBQUFBQUFBavC_2WZ3owS2CvWlIoTTNmdk67SC0q_KSKjiEkwtV5M',
    );
  });

  it('is 64 characters of base64url, another each time, and each is valid', () => {
    const tokens = Array.from({ length: 1000 }, () => mintToken(secret));
    expect(new Set(tokens).size).toBe(1000);
    for (const token of tokens) expect(token).toMatch(/^[A-Za-z0-9_-]{64}$/);
    expect(tokens.every((token) => tokenMatches(secret, token))).toBe(true);
    // Nothing that two renderings share could be extracted by compression: each position varies.
    for (let position = 0; position < 64; position++) {
      expect(new Set(tokens.map((token) => token[position])).size).toBeGreaterThan(20);
    }
  });

  it('is refused with any character changed, cut or added, in another alphabet, and under another secret', () => {
    const token = mintToken(secret);
    const changed = Array.from(token, (character, index) => {
      return token.slice(0, index) + (character === 'A' ? 'B' : 'A') + token.slice(index + 1);
    });
    const others = [
      '',
      token.slice(1),
      token.slice(0, -1),
      `${token}A`,
      `${token}=`,
      ` ${token}`,
      `${token}\n`,
    ];
    const standard = Buffer.from(token, 'base64url').toString('base64').replace(/\w/, '+');
    const hex = createHash('sha256').update('x').digest('hex');
    for (const forged of [...changed, ...others, standard, hex, 'x'.repeat(1_000_000), 'é'.repeat(64)]) {
      expect(tokenMatches(secret, forged)).toBe(false);
    }
    expect(tokenMatches(Buffer.alloc(32, 8), token)).toBe(false);
  });
});
