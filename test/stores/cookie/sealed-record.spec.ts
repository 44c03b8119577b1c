import { decodeRecord, encodeRecord, type SealedRecord } from '../../../lib/stores/cookie/sealed-record.js';

const NOW = Date.UTC(2026, 0, 1);

function sealed(fields: Record<string, string> = {}, userId?: string): SealedRecord {
  return {
    secret: 'the secret of the session',
    savedAt: NOW,
    record: {
      createdAt: NOW - 2,
      lastAccessedAt: NOW - 1,
      expiresAt: NOW + 1000,
      userId,
      fields: new Map(Object.entries(fields)),
    },
  };
}

describe('a record as it travels', () => {
  it.each<[string, Record<string, string>]>([
    ['no fields', {}],
    ['one', { 'data:a': '1' }],
    ['several, in their order', { 'data:b': '"2"', 'data:a': '[1,{"c":null}]', 'flash:note': '"x"' }],
    ['an empty text and an empty name', { '': '', 'data:': '' }],
    ['line feeds, commas and brackets', { 'a\n],"': '\n\n]\n[1,2', b: '\n' }],
    ['every kind of character', { 'ключ 🔑': '"ünïcödé 🍪 \u2028 \u0000"' }],
    ['names of Object.prototype', { constructor: '1', toString: '2', hasOwnProperty: '3' }],
    ['digits as names', { '7': '"seven"', '-1': '1' }],
  ])('comes back with %s', (_, fields) => {
    expect(decodeRecord(encodeRecord(sealed(fields)))).toEqual(sealed(fields));
  });

  it('comes back with the name __proto__ as a name among others', () => {
    const record = sealed();
    record.record.fields.set('__proto__', '{"polluted":true}').set('data:a', '1');
    const decoded = decodeRecord(encodeRecord(record));
    expect([...(decoded?.record.fields ?? [])]).toEqual([
      ['__proto__', '{"polluted":true}'],
      ['data:a', '1'],
    ]);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it('knows a user, and nobody as nobody', () => {
    expect(decodeRecord(encodeRecord(sealed({}, 'alice')))?.record.userId).toBe('alice');
    expect(decodeRecord(encodeRecord(sealed()))?.record.userId).toBeUndefined();
  });

  it('survives the way through bytes, in which it is sealed', () => {
    const record = sealed({ 'data:a\ud800': JSON.stringify('lone \udfff, 🍪') }, 'al\ud800ice');
    const bytes = Buffer.from(encodeRecord(record));
    expect(decodeRecord(bytes.toString())).toEqual(record);
  });

  it('reads as documented', () => {
    expect(encodeRecord(sealed({ 'data:a': '1', 'data:b': '"xyz"' }, 'alice'))).toBe(
      `[1,${NOW},${NOW - 2},${NOW - 1},${NOW + 1000},"the secret of the session","alice","data:a",1,"data:b",5]\n1"xyz"`,
    );
  });
});

describe('anything else, however it came to be sealed, is no record and no exception:', () => {
  const TIMES = `${NOW},${NOW},${NOW},${NOW + 1000}`;
  const head = (...values: unknown[]): string => `${JSON.stringify(values)}\n`;
  const times = (at: number, value: unknown): unknown[] =>
    [NOW, NOW, NOW, NOW + 1000].map((time, index) => (index === at ? value : time));

  it('what these cases are made from is a record', () => {
    expect(decodeRecord(`[1,${TIMES},"s",null]\n`)).toBeDefined();
    expect(decodeRecord(head(1, ...times(-1, 0), 's', null, 'a', 2) + '12')).toBeDefined();
  });

  it.each([
    ['nothing', ''],
    ['a line feed', '\n'],
    ['text', 'hello'],
    ['text in a line', 'hello\nworld'],
    ['null', 'null'],
    ['null in a line', 'null\n'],
    ['true', 'true\n'],
    ['a number', '1\n'],
    ['a string', '"[1]"\n'],
    ['an object', '{}\n'],
    ['an object that looks like a list', '{"0":1,"length":7}\n'],
    ['an object with __proto__', '{"__proto__":[1]}\n'],
    ['an empty list', '[]\n'],
    ['a list in a list', `[[1,${TIMES},"s",null]]\n`],
    ['a list that does not end', `[1,${TIMES},"s",null\n`],
    ['no line feed', `[1,${TIMES},"s",null]`],
    ['no line feed, and one character more', `[1,${TIMES},"s",null]x`],
    ['a line feed in the wrong place', `[1,${TIMES},\n"s",null]`],
    ['the payload of another library', '{"v":1,"iat":1767225600,"exp":1767268800,"data":{"userId":"admin"}}'],
    ['a CSRF secret', `${'A'.repeat(43)} ${NOW + 1000}`],
    ['JSON nested ten thousand deep', '['.repeat(10_000) + ']'.repeat(10_000) + '\n'],
    ['JSON nested a million deep, which does not end', '['.repeat(1_000_000) + '\n'],
    ['a value nested ten thousand deep', head(1).slice(0, -2) + ',' + '['.repeat(10_000) + '\n'],
    ['a million commas', `[${','.repeat(1_000_000)}]\n`],
    ['NUL', '\0\n\0'],
  ])('%s', (_, text) => {
    expect(decodeRecord(text)).toBeUndefined();
  });

  it.each([0, 2, -1, '1', null, true, [1], {}, 1.5])('version %j', (version) => {
    expect(decodeRecord(head(version, ...times(-1, 0), 's', null))).toBeUndefined();
  });

  describe.each(['savedAt', 'createdAt', 'lastAccessedAt', 'expiresAt'])('%s of', (name) => {
    const at = ['savedAt', 'createdAt', 'lastAccessedAt', 'expiresAt'].indexOf(name);

    it.each([
      '1e99',
      '-1e99',
      '1e999',
      '1.5',
      '9007199254740992',
      'null',
      'true',
      `"${NOW}"`,
      '"NaN"',
      '[]',
      `[${NOW}]`,
      '{}',
      '{"valueOf":1}',
    ])('%s', (json) => {
      const line = [NOW, NOW, NOW, NOW].map((time, index) => (index === at ? json : time)).join(',');
      expect(decodeRecord(`[1,${line},"s",null]\n`)).toBeUndefined();
    });

    it('nothing at all: it is missing', () => {
      const others = times(-1, 0).filter((_, index) => index !== at);
      expect(decodeRecord(head(1, ...others, 's', null))).toBeUndefined();
      expect(decodeRecord(head(1, ...others))).toBeUndefined();
    });
  });

  it.each([null, 1, true, [], {}, ['s']])('a secret that is %j', (secret) => {
    expect(decodeRecord(head(1, ...times(-1, 0), secret, null))).toBeUndefined();
  });

  it.each([1, 0, true, false, [], {}, ['alice']])('a user who is %j', (userId) => {
    expect(decodeRecord(head(1, ...times(-1, 0), 's', userId))).toBeUndefined();
  });

  it('a head that ends before the secret, or before the user', () => {
    expect(decodeRecord(head(1, ...times(-1, 0)))).toBeUndefined();
    expect(decodeRecord(head(1, ...times(-1, 0), 's'))).toBeUndefined();
  });

  it.each<[string, unknown[], string]>([
    ['no length', ['a'], ''],
    ['a name that is no text', [1, 1], 'x'],
    ['a name that is null', [null, 1], 'x'],
    ['a length that is text', ['a', '1'], 'x'],
    ['a length that is null', ['a', null], 'x'],
    ['a length with a fraction', ['a', 0.5], 'x'],
    ['a negative length', ['a', -1], 'x'],
    ['a negative length that another makes up for', ['a', 3, 'b', -1], 'xy'],
    ['a length that overruns', ['a', 2], 'x'],
    ['a length that overruns by far', ['a', Number.MAX_SAFE_INTEGER], 'x'],
    ['two lengths that overrun by far', ['a', Number.MAX_SAFE_INTEGER, 'b', Number.MAX_SAFE_INTEGER], 'x'],
    ['a length of 1e99', ['a', 1e99], 'x'],
    ['more text than there are lengths', ['a', 1], 'xy'],
    ['text without a name', [], 'x'],
    ['no text for its last', ['a', 1, 'b', 1], 'x'],
    ['a list where a name should be', [['a'], 1], 'x'],
    ['an object where a length should be', ['a', { length: 1 }], 'x'],
  ])('fields with %s', (_, sizes, texts) => {
    expect(decodeRecord(head(1, ...times(-1, 0), 's', null, ...sizes) + texts)).toBeUndefined();
  });

  it('ten thousand texts at random', () => {
    const parts = [
      '[',
      ']',
      '1',
      ',',
      '"s"',
      'null',
      '\n',
      '{',
      '}',
      ':',
      '-',
      'e9',
      String(NOW),
      '"a"',
      ' ',
    ];
    for (let round = 0; round < 10_000; round++) {
      let text = '';
      const length = Math.floor(Math.random() * 30);
      for (let index = 0; index < length; index++) text += parts[Math.floor(Math.random() * parts.length)];
      expect([text, decodeRecord(text)]).toEqual([text, undefined]);
    }
  });
});

describe('a record with odd but possible times is one:', () => {
  it.each([0, -1, -(2 ** 53) + 1, 2 ** 53 - 1])(
    'an expiry of %i, which whoever reads it has to judge',
    (expiresAt) => {
      const record = sealed();
      const odd = { ...record, record: { ...record.record, expiresAt } };
      expect(decodeRecord(encodeRecord(odd))?.record.expiresAt).toBe(expiresAt);
    },
  );
});
