import { runInNewContext } from 'node:vm';
import { Body, Controller, Get, Post, Query } from '@nestjs/common';
import { Session, type SessionModuleOptions, SessionValueError } from 'nest-session';
import { type Browser, onBothAdapters, type Served, serve, sessionCookies } from '../support/app.js';

type Any = Session<any>;

/** What a test runs inside a handler. */
function thrown(): never {
  throw new TypeError('a trap');
}

let run: (session: Any) => unknown = () => {};

@Controller()
class ValuesController {
  @Get('ignore')
  ignore() {
    return 'nothing to do with sessions';
  }

  @Post('set')
  set(@Session() session: Any, @Body() body: object) {
    session.update(body);
  }

  @Get('get')
  get(@Session() session: Any, @Query('key') key: string) {
    return { has: session.has(key), value: session.get(key) };
  }

  @Get('theme')
  theme(@Session('theme' as never) theme?: string) {
    return { theme: theme ?? null };
  }

  @Get('run')
  async run(@Session() session: Any) {
    return { result: (await run(session)) ?? null };
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;

  async function start(options: Partial<SessionModuleOptions> = {}) {
    served = await serve(adapter, { controllers: [ValuesController], options });
    browser = served.browser();
  }

  /** Runs it with the browser's session and gives its result. */
  async function inHandler(work: (session: Any) => unknown): Promise<any> {
    run = work;
    const response = await browser.get('/run');
    expect(response.status).toBe(200);
    return response.body.result;
  }

  beforeEach(() => start());
  afterEach(() => served.close());

  describe('a visitor who only reads', () => {
    it('gets no cookie, no record, and costs no store call', async () => {
      run = (session) => [
        session.get('theme', 'light'),
        session.has('theme'),
        session.keys(),
        session.data,
        session.userId,
        session.id,
        session.flash.all(),
        session.isNew,
        session.isModified,
        session.delete('theme'),
        session.pull('theme'),
      ];
      const response = await served.http.get('/run').expect(200);
      expect(response.body.result).toEqual([
        ...['light', false, [], {}, null],
        expect.stringMatching(/^[0-9a-f]{64}$/),
        ...[{}, true, false, false, null],
      ]);
      expect(sessionCookies(response)).toEqual([]);
      expect(served.store.drain()).toEqual([]);
    });

    it('gets nothing for setting a value and taking it back', async () => {
      run = (session) => session.set('theme', 'dark').delete('theme');
      const response = await served.http.get('/run');
      expect(sessionCookies(response)).toEqual([]);
      expect(served.store.drain()).toEqual([]);
    });
  });

  it('creates one record and one cookie at the first write', async () => {
    const response = await browser.post('/set', { theme: 'dark' });
    expect(sessionCookies(response)).toHaveLength(1);
    expect(served.store.drain()).toEqual(['create']);
    const second = await browser.get('/get?key=theme');
    expect(second.body).toEqual({ has: true, value: 'dark' });
    expect(sessionCookies(second)).toEqual([]);
    expect(served.store.drain()).toEqual(['load']);
  });

  it('writes nothing when nothing changed: not for reading, not for setting what is there', async () => {
    await browser.post('/set', { theme: 'dark', cart: { items: [1] } });
    served.store.drain();
    await inHandler((session) => {
      session.get('cart');
      session.set('theme', 'dark').set('cart', { items: [1] });
      return session.isModified;
    });
    expect(served.store.drain()).toEqual(['load']);
  });

  describe('any JSON value comes back with its type:', () => {
    it.each<[unknown]>(
      [
        ...['', 'text', 'ünïcödé 🎉', '\u0000', '\ud800', '"quoted"'],
        ...[0, -1, 1.5, 1e300, 123456789012345, true, false, null],
        ...[[], {}, [[[]]], [null, 1, 'a'], { a: { b: [{ c: null }] } }],
        ...[{ '': 1, ' ': 2, 'a.b': 3, then: 4, toJSON: 5, constructor: 6 }],
      ].map((value) => [value]),
    )('%j', async (value) => {
      await inHandler((session) => void session.set('value', value));
      expect(await inHandler((session) => session.get('value'))).toEqual(value);
      expect(await inHandler((session) => session.has('value'))).toBe(true);
    });
  });

  it('a text of 64 KiB comes back whole', async () => {
    await inHandler((session) => void session.set('value', 'x'.repeat(65_536)));
    expect(await inHandler((session) => session.get('value'))).toBe('x'.repeat(65_536));
  });

  it('an optional property that is undefined is left out, as JSON does', async () => {
    await inHandler((session) => void session.set('value', { a: 1, b: undefined }));
    expect(await inHandler((session) => session.get('value'))).toEqual({ a: 1 });
  });

  describe('what JSON would change or lose is refused at the set, naming key and path:', () => {
    class Cart {
      items = [];
    }
    const cycle: unknown[] = [];
    cycle.push({ again: cycle });
    let deep: unknown = 'bottom';
    for (let level = 0; level < 65; level++) deep = { deeper: deep };
    let veryDeep: unknown = [];
    for (let level = 0; level < 10_000; level++) veryDeep = [veryDeep];

    it.each<[string, unknown, string, RegExp]>([
      ['a Date', { at: new Date(0) }, 'value.at', /a Date is not a JSON value\. Store date\.toISOString\(\)/],
      ['a Map', [new Map()], 'value[0]', /a Map is not/],
      ['a Set', { tags: { all: new Set() } }, 'value.tags.all', /a Set is not/],
      ['a BigInt', { n: [1, 2n] }, 'value.n[1]', /a BigInt is not.*String\(value\)/],
      ['a function', { go() {} }, 'value.go', /function is not/],
      ['a symbol', [Symbol('s')], 'value[0]', /symbol is not/],
      ['NaN', { n: Number.NaN }, 'value.n', /NaN is not/],
      ['Infinity', -Infinity, 'value', /-Infinity is not/],
      ['undefined in an array', [undefined], 'value[0]', /undefined is not/],
      ['a hole in an array', Array.from({ length: 1 }), 'value[0]', /undefined is not/],
      ['a class instance', new Cart(), 'value', /a Cart is not/],
      ['an Error', { e: new Error('x') }, 'value.e', /a Error is not/],
      ['a RegExp', /x/, 'value', /a RegExp is not/],
      ['a Promise', Promise.resolve(), 'value', /a Promise is not/],
      ['a Buffer', { b: Buffer.from('x') }, 'value.b', /a \w+ is not/],
      ['a typed array', new Uint8Array(2), 'value', /a Uint8Array is not/],
      ['something with toJSON', { x: { toJSON: () => 1 } }, 'value.x.toJSON', /function is not/],
      ['an odd name on the way', { 'a b': [{ c: 1n }] }, 'value["a b"][0].c', /BigInt/],
      ['a cycle', cycle, 'value', /64 levels deep, or contains itself/],
      ['more than 64 levels', deep, 'value', /64 levels/],
      ['10 000 levels', veryDeep, 'value', /64 levels/],
      [
        'a throwing getter',
        Object.defineProperty({}, 'x', { enumerable: true, get: () => thrown() }),
        'value.x',
        /an accessor is not a JSON value/,
      ],
      [
        'a getter, which says something else each time',
        {
          get elapsed() {
            return performance.now();
          },
        },
        'value.elapsed',
        /an accessor is not a JSON value.*Store what it returns/,
      ],
      [
        'a getter of an array',
        Object.defineProperty([1], 0, { get: () => performance.now() }),
        'value[0]',
        /an accessor is not/,
      ],
      [
        'a symbol as a key',
        { a: { [Symbol('hidden')]: 1 } },
        'value.a',
        /lose its property Symbol\(hidden\)/,
      ],
      [
        'a property of an array',
        { list: Object.assign([1, 2], { total: 3 }) },
        'value.list',
        /lose the properties that are no elements/,
      ],
      [
        'a toJSON that is not enumerable',
        Object.defineProperty({ a: 1 }, 'toJSON', { value: () => 2 }),
        'value.toJSON',
        /not enumerable/,
      ],
      [
        'a toJSON of a bare prototype',
        Object.create(Object.assign(Object.create(null), { toJSON: () => 1 })),
        'value',
        /a class instance is not/,
      ],
      [
        'a property that is not enumerable',
        Object.defineProperty({}, 'x', { value: 1 }),
        'value.x',
        /would lose it/,
      ],
      ['an array of a class', { list: new (class List extends Array {})() }, 'value.list', /a List is not/],
      [
        'a proxy that JSON gets nothing from',
        new Proxy({}, { get: (_, name) => (name === 'toJSON' ? () => undefined : 1) }),
        'value',
        /a Proxy may say something else/,
      ],
      [
        'a throwing proxy',
        new Proxy({}, { getPrototypeOf: () => thrown() }),
        'value',
        /reading it failed with: TypeError/,
      ],
    ])('%s', async (_, value, path, problem) => {
      let caught: unknown;
      await inHandler((session) => {
        session.set('kept', 'yes');
        try {
          session.set('value', value);
        } catch (error) {
          caught = error;
        }
      });
      expect(caught).toBeInstanceOf(SessionValueError);
      expect(caught).toMatchObject({ code: 'E_SESSION_VALUE', key: 'value' });
      expect((caught as SessionValueError).path.startsWith(path)).toBe(true);
      expect((caught as Error).message).toMatch(problem);
      expect(await inHandler((session) => session.data)).toEqual({ kept: 'yes' });
    });

    it('64 levels are not too many', async () => {
      let value: unknown = 'bottom';
      for (let level = 0; level < 64; level++) value = { deeper: value };
      await inHandler((session) => void session.set('value', value));
      expect(await inHandler((session) => session.get('value'))).toEqual(value);
    });

    it('a number as a key, with a TypeError', async () => {
      let caught: unknown;
      await inHandler((session) => {
        try {
          session.set(7 as never, 1);
        } catch (error) {
          caught = error;
        }
      });
      expect(caught).toEqual(new TypeError('A session key is a string, not a number.'));
    });
  });

  describe('__proto__ and constructor', () => {
    it('are absent until set, ordinary keys when set, and pollute nothing', async () => {
      expect(await inHandler((session) => [session.get('constructor'), session.has('__proto__')])).toEqual([
        null,
        false,
      ]);
      await inHandler((session) => {
        for (const key of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'then', '']) {
          session.set(key, { polluted: key });
        }
      });
      const seen = await inHandler((session) => ({
        keys: session.keys(),
        proto: session.get('__proto__'),
        own: Object.hasOwn(session.data, '__proto__'),
      }));
      expect(seen).toEqual({
        keys: ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'then', ''],
        proto: { polluted: '__proto__' },
        own: true,
      });
      expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    });

    it('inside a value are ordinary properties too', async () => {
      const body = JSON.parse('{"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}}}');
      await inHandler((session) => void session.set('value', body));
      const back = await inHandler((session) => {
        const value = session.get('value');
        return [Object.keys(value), value.admin, ({} as Record<string, unknown>).admin];
      });
      expect(back).toEqual([['__proto__', 'constructor'], null, null]);
    });
  });

  it('an object of another realm is as good as one of ours', async () => {
    const foreign = runInNewContext('({ list: [1, { deep: true }] })');
    await inHandler((session) => void session.set('value', foreign));
    expect(await inHandler((session) => session.get('value'))).toEqual({ list: [1, { deep: true }] });
  });

  it.each(['\ud800', 'a\udc00', '\udfff\ud800'])(
    'a key that is no well-formed text is refused: %j',
    async (key) => {
      const caught = await inHandler((session) => {
        const codes: unknown[] = [];
        for (const write of [
          () => session.set(key, 1),
          () => session.update({ [key]: 1 }),
          () => session.increment(key),
          () => session.flash.set(key, 1),
        ]) {
          try {
            write();
          } catch (error) {
            codes.push((error as SessionValueError).code);
          }
        }
        return [...codes, session.get(key) ?? null, session.has(key)];
      });
      expect(caught).toEqual([...Array.from({ length: 4 }, () => 'E_SESSION_VALUE'), null, false]);
    },
  );

  describe('a change inside a value', () => {
    beforeEach(() => browser.post('/set', { cart: { items: ['pen'] }, list: [1] }));

    it('is saved without a set', async () => {
      await inHandler((session) => session.get('cart').items.push('ink'));
      expect(await inHandler((session) => session.get('cart'))).toEqual({ items: ['pen', 'ink'] });
    });

    it('is seen by isModified, and undone by itself when it is taken back', async () => {
      const seen = await inHandler((session) => {
        const before = session.isModified;
        session.get('cart').items.push('ink');
        const changed = session.isModified;
        session.get('cart').items.pop();
        return [before, changed, session.isModified];
      });
      expect(seen).toEqual([false, true, false]);
      served.store.drain();
    });

    it('after a set is saved as well', async () => {
      await inHandler(async (session) => {
        const cart = { items: ['a'] };
        session.set('cart', cart);
        cart.items.push('b');
        await session.save();
        cart.items.push('c');
      });
      expect(await inHandler((session) => session.get('cart'))).toEqual({ items: ['a', 'b', 'c'] });
    });

    it('writes only the key it happened in', async () => {
      const held = served.store.hold('commit');
      const slow = inHandler((session) => session.get('cart').items.push('ink'));
      await held.reached;
      await browser.copy().post('/set', { list: [2] });
      held.release();
      await slow;
      expect(await inHandler((session) => session.data)).toEqual({
        cart: { items: ['pen', 'ink'] },
        list: [2],
      });
    });

    it('that JSON cannot hold is an error at the commit, naming key and path', async () => {
      run = (session) => session.get('cart').items.push({ at: new Map() });
      expect((await browser.get('/run')).status).toBe(500);
      expect(served.log.join('\n')).toMatch(
        /SessionValueError: Cannot store session value cart\.items\[1\]\.at: a Map/,
      );
      expect(await inHandler((session) => session.get('cart'))).toEqual({ items: ['pen'] });
    });

    it('of a copy, which data is, changes nothing', async () => {
      await inHandler((session) => session.data.cart.items.push('ink'));
      expect(await inHandler((session) => session.get('cart'))).toEqual({ items: ['pen'] });
    });
  });

  describe('the small operations', () => {
    it('update takes a patch or a function of the data', async () => {
      await inHandler((session) =>
        session
          .update({ a: 1, b: 2 })
          .update((data: any) => ({ b: data.b + 1, c: 3 }))
          .update({ a: undefined }),
      );
      expect(await inHandler((session) => session.data)).toEqual({ b: 3, c: 3 });
    });

    it('pull gives a value once', async () => {
      await browser.post('/set', { once: { x: 1 } });
      expect(await inHandler((session) => session.pull('once'))).toEqual({ x: 1 });
      expect(await inHandler((session) => session.has('once'))).toBe(false);
    });

    it('increment counts from nothing, and refuses what is no number', async () => {
      expect(await inHandler((session) => [session.increment('n'), session.increment('n', 5)])).toEqual([
        1, 6,
      ]);
      expect(await inHandler((session) => session.get('n'))).toBe(6);
      let caught: unknown;
      await inHandler((session) => {
        session.set('n', 'six');
        try {
          session.increment('n');
        } catch (error) {
          caught = error;
        }
      });
      expect(caught).toMatchObject({
        code: 'E_SESSION_VALUE',
        message: expect.stringMatching(/not a string/),
      });
    });

    it('delete says whether it was there, clear keeps the session and its messages', async () => {
      await browser.post('/set', { a: 1, b: 2 });
      const id = await inHandler((session) => {
        session.flash.set('note', 'still here');
        return session.id;
      });
      expect(
        await inHandler((session) => [session.delete('a'), session.delete('a'), session.delete('x')]),
      ).toEqual([true, false, false]);
      await inHandler((session) => void session.clear());
      const after = await inHandler((session) => [session.id, session.keys(), session.flash.get('note')]);
      expect(after).toEqual([id, [], 'still here']);
    });

    it('set to undefined deletes', async () => {
      await browser.post('/set', { a: 1 });
      await inHandler((session) => void session.set('a', undefined));
      expect(await inHandler((session) => session.keys())).toEqual([]);
    });

    it('a value of null, false or 0 is there', async () => {
      await browser.post('/set', { a: null, b: false, c: 0 });
      const seen = await inHandler((session) => [
        ['a', 'b', 'c'].map((key) => session.has(key)),
        session.get('a', 'fallback'),
      ]);
      expect(seen).toEqual([[true, true, true], null]);
    });

    it('the decorator hands out one value', async () => {
      await browser.post('/set', { theme: 'dark' });
      expect((await browser.get('/theme')).body).toEqual({ theme: 'dark' });
      expect((await served.http.get('/theme')).body).toEqual({ theme: null });
    });
  });

  it('shows its data and nothing else as JSON or in a log', async () => {
    await browser.post('/set', { theme: 'dark' });
    const { inspect } = await import('node:util');
    const [json, shown] = await inHandler((session) => [
      JSON.stringify(session),
      inspect(session, { depth: 9 }),
    ]);
    expect(json).toBe('{"theme":"dark"}');
    const secret = browser.cookie?.split(/[=.]/)[1] as string;
    expect(shown).not.toContain(secret);
  });

  describe('defaults', () => {
    it('answer for a key never set, are not stored, and show in data', async () => {
      await served.close();
      await start({ defaults: { theme: 'light', cart: { items: [] } } as never });
      const seen = await inHandler((session) => [
        session.get('theme'),
        session.get('theme', 'fallback'),
        session.has('theme'),
        session.keys(),
        session.data,
        session.get('cart').items,
      ]);
      expect(seen).toEqual(['light', 'light', false, [], { theme: 'light', cart: { items: [] } }, []]);
      expect(served.store.drain()).toEqual([]);
    });

    it('are stored once they are changed, inside too, and never shared between sessions', async () => {
      await served.close();
      await start({ defaults: () => ({ cart: { items: [] } }) as never });
      await inHandler((session) => session.get('cart').items.push('pen'));
      expect(await inHandler((session) => [session.get('cart'), session.keys()])).toEqual([
        { items: ['pen'] },
        ['cart'],
      ]);
      browser = served.browser();
      expect(await inHandler((session) => session.get('cart'))).toEqual({ items: [] });
    });

    it('come back when the key is deleted', async () => {
      await served.close();
      await start({ defaults: { theme: 'light' } as never });
      await browser.post('/set', { theme: 'dark' });
      expect(await inHandler((session) => session.get('theme'))).toBe('dark');
      expect(await inHandler((session) => [session.delete('theme'), session.get('theme')])).toEqual([
        true,
        'light',
      ]);
      expect(await inHandler((session) => [session.has('theme'), session.get('theme')])).toEqual([
        false,
        'light',
      ]);
    });
  });
});
