import assert from 'node:assert/strict';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from '../stores/session-store.js';

/** The optional methods of a store. */
export type StorePower = 'adopt' | 'listByUser' | 'count' | 'clear' | 'sweep' | 'close' | 'ping';

/**
 * Makes an empty store. If the factory takes the clock, the suite tests expiry to the millisecond. Otherwise it tests
 * expiry with instants in the past.
 */
export type StoreFactory = (clock: () => number) => SessionStore | Promise<SessionStore>;

/** The globals of a test runner: Jest, Vitest with `globals`, Mocha, or `node:test` assigned to them. */
interface Runner {
  describe(name: string, define: () => void): void;
  it(name: string, test: () => unknown): void;
  beforeEach(prepare: () => unknown): void;
  afterEach(tidy: () => unknown): void;
}

const ID = '0123456789abcdef'.repeat(4);
const OTHER = 'fedcba9876543210'.repeat(4);
const NEW = 'a'.repeat(64);

const NOTHING: SessionDelta = { set: new Map(), delete: [], header: {} };

/** Makes a delta of plain objects. */
function delta(
  set: Record<string, string> = {},
  removed: readonly string[] = [],
  header: SessionDelta['header'] = {},
): SessionDelta {
  return { set: new Map(Object.entries(set)), delete: removed, header };
}

/**
 * Tests a store against the contract that {@link SessionStore} describes. Call it once in a test file. It uses the
 * runner's global `describe` and `it`.
 *
 * ```ts
 * describeSessionStore('MyStore', (clock) => new MyStore({ clock }));
 * ```
 *
 * @param powers the optional methods that the store must have. Those that it has are tested in any case.
 */
export function describeSessionStore(
  name: string,
  factory: StoreFactory,
  powers: readonly StorePower[] = [],
): void {
  const { describe, it, beforeEach, afterEach } = globalThis as typeof globalThis & Runner;

  describe(`${name} keeps the contract of a session store`, () => {
    let now: number;
    let store: SessionStore;

    beforeEach(async () => {
      now = Date.now();
      store = await factory(() => now);
    });
    afterEach(() => store.close?.());

    /** Makes a record that lives for `lives` milliseconds, by default an hour. */
    const record = (fields: Record<string, string> = { a: '1' }, lives = 3_600_000): SessionRecord => ({
      createdAt: now,
      lastAccessedAt: now,
      expiresAt: now + lives,
      fields: new Map(Object.entries(fields)),
    });

    const fieldsOf = async (id: string): Promise<Record<string, string> | undefined> => {
      const loaded = await store.load(id);
      return loaded && Object.fromEntries(loaded.fields);
    };

    /** Every operation that needs a live record, by its name. */
    const operations: Record<string, (id: string) => Promise<unknown>> = {
      commit: (id) => store.commit(id, delta({ a: '2', b: '2' }, [], { expiresAt: now + 7_200_000 })),
      touch: (id) => store.touch(id, now + 7_200_000),
      rotate: (id) => store.rotate(id, NEW, delta({ a: '2' }, [], { expiresAt: now + 7_200_000 })),
      destroy: (id) => store.destroy(id),
    };
    const gone = (operation: string): unknown => (operation === 'destroy' ? false : 'gone');

    describe('create and load', () => {
      it('give back what was stored', async () => {
        const stored = { ...record({ a: '1', b: '{"c":[1]}' }), userId: 'alice', lastAccessedAt: now - 5 };
        assert.equal(await store.create(ID, stored), 'created');
        const loaded = await store.load(ID);
        assert.deepEqual(
          { ...loaded, fields: Object.fromEntries(loaded?.fields ?? []) },
          { ...stored, fields: { a: '1', b: '{"c":[1]}' } },
        );
      });

      it('load a record without a user without one', async () => {
        await store.create(ID, record());
        assert.equal((await store.load(ID))?.userId, undefined);
      });

      it('never overwrite: the second of two creations finds the id taken', async () => {
        const outcomes = await Promise.all([
          store.create(ID, record({ a: 'first' })),
          store.create(ID, record({ a: 'second' })),
        ]);
        assert.deepEqual([...outcomes].sort(), ['created', 'exists']);
        const kept = (await fieldsOf(ID))?.a;
        assert.equal(kept, outcomes[0] === 'created' ? 'first' : 'second');
        assert.equal(await store.create(ID, record({ a: 'third' })), 'exists');
        assert.equal((await fieldsOf(ID))?.a, kept);
      });

      it('know nothing of an id that was never stored', async () => {
        assert.equal(await store.load(OTHER), undefined);
      });

      it('hold a record without fields', async () => {
        await store.create(ID, record({}));
        assert.deepEqual(await fieldsOf(ID), {});
      });

      it('share nothing with the caller', async () => {
        const given = record({ a: '1' });
        await store.create(ID, given);
        given.fields.set('a', 'changed outside').set('b', 'added outside');
        const first = await store.load(ID);
        first?.fields.set('a', 'changed outside').set('b', 'added outside');
        assert.deepEqual(await fieldsOf(ID), { a: '1' });
        const set = new Map([['c', '3']]);
        const header = { userId: 'alice' };
        await store.commit(ID, { set, delete: [], header });
        set.set('c', 'changed outside');
        header.userId = 'mallory';
        assert.deepEqual(await fieldsOf(ID), { a: '1', c: '3' });
        assert.equal((await store.load(ID))?.userId, 'alice');
      });
    });

    describe('fields are opaque', () => {
      const names = [
        '__proto__',
        'constructor',
        'toString',
        '',
        ' ',
        'a.b',
        'a:b',
        'ключ',
        '🔑',
        '\n',
        '\u0000',
        '"',
        '$',
      ];
      const texts = ['""', '"ünïcödé 🎉"', '"\\u0000"', '"\\ud800"', 'null', '0', '"\n\r\t"'];

      for (const field of names) {
        it(`whatever they are called: ${JSON.stringify(field)}`, async () => {
          await store.create(ID, { ...record(), fields: new Map([[field, '1']]) });
          await store.commit(ID, { ...NOTHING, set: new Map([[`${field}2`, '2']]) });
          const loaded = (await store.load(ID))?.fields;
          assert.deepEqual(
            [...(loaded ?? [])].sort(),
            [
              [field, '1'],
              [`${field}2`, '2'],
            ].sort(),
          );
          await store.commit(ID, { ...NOTHING, delete: [field] });
          assert.deepEqual([...((await store.load(ID))?.fields ?? [])], [[`${field}2`, '2']]);
          assert.equal(({} as Record<string, unknown>)[`${field}2`], undefined);
        });
      }

      for (const text of texts) {
        it(`whatever they hold: ${text.slice(0, 20)}`, async () => {
          await store.create(ID, record({ a: text }));
          await store.commit(ID, delta({ b: text }));
          assert.deepEqual(await fieldsOf(ID), { a: text, b: text });
        });
      }

      const large: Record<string, [field: string, text: string]> = {
        'a text of 64 KiB': ['b', JSON.stringify('x'.repeat(65_536))],
        'a text of 256 KiB': ['b', JSON.stringify('ü'.repeat(131_072))],
        'a name of 64 KiB': ['b'.repeat(65_536), '2'],
      };
      for (const [what, [field, text]] of Object.entries(large)) {
        it(`however large they are, or the store rejects with SessionTooLargeError and keeps its record: ${what}`, async () => {
          await store.create(ID, record({ a: '1' }));
          try {
            await store.commit(ID, delta({ [field]: text, c: '3' }));
          } catch (error) {
            assert.equal((error as Error).name, 'SessionTooLargeError');
            assert.deepEqual(await fieldsOf(ID), { a: '1' });
            return;
          }
          assert.deepEqual(await fieldsOf(ID), { a: '1', [field]: text, c: '3' });
        });
      }

      it('however many there are', async () => {
        const many = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`f${index}`, `${index}`]));
        await store.create(ID, record(many));
        assert.deepEqual(await fieldsOf(ID), many);
      });
    });

    describe('commit', () => {
      it('merges: what it does not name stays', async () => {
        await store.create(ID, record({ a: '1', b: '1', c: '1' }));
        assert.equal(await store.commit(ID, delta({ b: '2', d: '4' }, ['c'])), 'saved');
        assert.deepEqual(await fieldsOf(ID), { a: '1', b: '2', d: '4' });
      });

      it('in parallel, of different fields: all survive', async () => {
        await store.create(ID, record({}));
        const names = Array.from({ length: 20 }, (_, index) => `f${index}`);
        await Promise.all(names.map((field) => store.commit(ID, delta({ [field]: field }))));
        assert.deepEqual(await fieldsOf(ID), Object.fromEntries(names.map((field) => [field, field])));
      });

      it('in parallel, one deletes and one sets: both happen', async () => {
        await store.create(ID, record({ a: '1', b: '1' }));
        await Promise.all([store.commit(ID, delta({}, ['a'])), store.commit(ID, delta({ b: '2' }))]);
        assert.deepEqual(await fieldsOf(ID), { b: '2' });
      });

      it('deletes what is not there without complaint', async () => {
        await store.create(ID, record());
        assert.equal(await store.commit(ID, delta({}, ['x'])), 'saved');
        assert.deepEqual(await fieldsOf(ID), { a: '1' });
      });

      it('moves the header values it names, and no others', async () => {
        await store.create(ID, { ...record(), userId: 'alice' });
        const { createdAt, expiresAt } = (await store.load(ID)) as SessionRecord;
        await store.commit(ID, delta({}, [], { lastAccessedAt: now + 5 }));
        const loaded = (await store.load(ID)) as SessionRecord;
        assert.deepEqual(
          [loaded.createdAt, loaded.lastAccessedAt, loaded.expiresAt, loaded.userId],
          [createdAt, now + 5, expiresAt, 'alice'],
        );
        await store.commit(ID, delta({}, [], { userId: 'bob', expiresAt: now + 10_000 }));
        assert.deepEqual(
          [(await store.load(ID))?.userId, (await store.load(ID))?.expiresAt],
          ['bob', now + 10_000],
        );
        await store.commit(ID, delta({}, [], { userId: null }));
        assert.equal((await store.load(ID))?.userId, undefined);
      });

      it('touches no other record', async () => {
        await store.create(ID, record({ a: '1' }));
        await store.create(OTHER, record({ a: '1' }));
        await store.commit(ID, delta({ a: '2' }));
        assert.deepEqual(await fieldsOf(OTHER), { a: '1' });
      });
    });

    describe('touch', () => {
      it('moves the expiry, and writes no data', async () => {
        await store.create(ID, { ...record({ a: '1' }), userId: 'alice' });
        assert.equal(await store.touch(ID, now + 7_200_000), 'saved');
        const loaded = (await store.load(ID)) as SessionRecord;
        assert.deepEqual(
          [loaded.expiresAt, loaded.userId, [...loaded.fields]],
          [now + 7_200_000, 'alice', [['a', '1']]],
        );
      });
    });

    describe('rotate', () => {
      it('moves the record, with the delta, and the old id is gone', async () => {
        await store.create(ID, { ...record({ a: '1', b: '1' }), userId: 'alice' });
        assert.equal(await store.rotate(ID, NEW, delta({ c: '3' }, ['b'], { userId: 'bob' })), 'saved');
        assert.equal(await store.load(ID), undefined);
        const loaded = (await store.load(NEW)) as SessionRecord;
        assert.deepEqual([loaded.createdAt, loaded.userId], [now, 'bob']);
        assert.deepEqual(Object.fromEntries(loaded.fields), { a: '1', c: '3' });
        for (const [operation, run] of Object.entries(operations))
          assert.equal(await run(ID), gone(operation));
      });

      it('in parallel has one winner, and the loser leaves nothing', async () => {
        await store.create(ID, record());
        const outcomes = await Promise.all([
          store.rotate(ID, NEW, delta({ by: 'one' })),
          store.rotate(ID, OTHER, delta({ by: 'two' })),
        ]);
        assert.deepEqual([...outcomes].sort(), ['gone', 'saved']);
        const [winner, loser] = outcomes[0] === 'saved' ? [NEW, OTHER] : [OTHER, NEW];
        assert.equal(await store.load(ID), undefined);
        assert.equal(await store.load(loser), undefined);
        assert.equal((await fieldsOf(winner))?.by, winner === NEW ? 'one' : 'two');
      });

      it('beside a commit: the commit is in the new record, or returned `gone`', async () => {
        await store.create(ID, record());
        const [committed, rotated] = await Promise.all([
          store.commit(ID, delta({ late: '1' })),
          store.rotate(ID, NEW, NOTHING),
        ]);
        assert.equal(rotated, 'saved');
        assert.equal(await store.load(ID), undefined);
        assert.deepEqual(await fieldsOf(NEW), committed === 'saved' ? { a: '1', late: '1' } : { a: '1' });
      });

      it('beside a destruction: one of the two finds the record, and no second record is left', async () => {
        await store.create(ID, record());
        const [destroyed, rotated] = await Promise.all([store.destroy(ID), store.rotate(ID, NEW, NOTHING)]);
        assert.equal(await store.load(ID), undefined);
        assert.equal((await store.load(NEW)) === undefined, rotated === 'gone');
        assert.ok(destroyed || rotated === 'saved');
      });
    });

    describe('what is gone stays gone:', () => {
      for (const operation of Object.keys(operations)) {
        it(`${operation} of an id that was never stored`, async () => {
          assert.equal(await operations[operation](ID), gone(operation));
          assert.equal(await store.load(ID), undefined);
          assert.equal(await store.load(NEW), undefined);
        });

        it(`${operation} after a destruction`, async () => {
          await store.create(ID, record());
          assert.equal(await store.destroy(ID), true);
          assert.equal(await operations[operation](ID), gone(operation));
          assert.equal(await store.load(ID), undefined);
          assert.equal(await store.load(NEW), undefined);
        });

        it(`${operation} after the record has expired`, async () => {
          await store.create(ID, record());
          await store.touch(ID, now - 1);
          assert.equal(await operations[operation](ID), gone(operation));
          assert.equal(await store.load(ID), undefined);
          assert.equal(await store.load(NEW), undefined);
        });

        it(`${operation} beside a destruction leaves nothing under the id`, async () => {
          await store.create(ID, record());
          await Promise.all([operations[operation](ID), store.destroy(ID)]);
          assert.equal(await store.load(ID), undefined);
        });
      }

      it('an id that was destroyed can be created again, without the old fields', async () => {
        await store.create(ID, { ...record({ a: '1' }), userId: 'alice' });
        await store.destroy(ID);
        assert.equal(await store.create(ID, record({ b: '2' })), 'created');
        assert.deepEqual(await fieldsOf(ID), { b: '2' });
        assert.equal((await store.load(ID))?.userId, undefined);
      });

      it('an id whose record has expired can be created again too', async () => {
        await store.create(ID, record({ a: '1' }));
        await store.touch(ID, now - 1);
        assert.equal(await store.create(ID, record({ b: '2' })), 'created');
        assert.deepEqual(await fieldsOf(ID), { b: '2' });
      });
    });

    describe('expiry', () => {
      it('is reported at most once, to a caller of load', async () => {
        await store.create(ID, record());
        await store.touch(ID, now - 1);
        const reports: DeadRecord[] = [];
        assert.equal(await store.load(ID, (why) => reports.push(why)), undefined);
        assert.equal(await store.load(ID, (why) => reports.push(why)), undefined);
        assert.ok(reports.length <= 1 && reports.every((why) => why === 'expired'));
      });

      if (factory.length > 0) {
        const ends: Record<string, () => Promise<unknown>> = {
          create: () => store.create(ID, record({ a: '1' }, 1000)),
          touch: async () => (await store.create(ID, record())) && store.touch(ID, now + 1000),
          commit: async () =>
            (await store.create(ID, record())) && store.commit(ID, delta({}, [], { expiresAt: now + 1000 })),
        };
        for (const [by, set] of Object.entries(ends)) {
          it(`set by ${by} comes at its millisecond, not before and not after`, async () => {
            await set();
            now += 999;
            assert.ok(await store.load(ID));
            now += 1;
            assert.equal(await store.load(ID), undefined);
            now -= 1;
            assert.equal(await store.load(ID), undefined);
          });
        }

        it('set by rotate comes at its millisecond too', async () => {
          await store.create(ID, record());
          await store.rotate(ID, NEW, delta({}, [], { expiresAt: now + 1000 }));
          now += 999;
          assert.ok(await store.load(NEW));
          now += 1;
          assert.equal(await store.load(NEW), undefined);
        });
      }
    });

    describe('powers', () => {
      it('are those that the store must have', () => {
        for (const power of powers)
          assert.equal(typeof store[power], 'function', `${name} has no ${power}()`);
      });

      const sessionsOf = async (userId: string): Promise<string[]> => [
        ...((await store.listByUser?.(userId)) ?? new Map()).keys(),
      ];

      /** A change of a session of alice, and the sessions that alice and bob have afterwards. */
      const transitions: Record<string, [move: () => Promise<unknown>, alices: string[], bobs: string[]]> = {
        'a commit without a user': [() => store.commit(ID, delta({ b: '2' })), [ID], []],
        'a touch': [() => store.touch(ID, now + 7_200_000), [ID], []],
        'a commit with the same user': [() => store.commit(ID, delta({}, [], { userId: 'alice' })), [ID], []],
        'a commit with another user': [() => store.commit(ID, delta({}, [], { userId: 'bob' })), [], [ID]],
        'a commit that removes the user': [() => store.commit(ID, delta({}, [], { userId: null })), [], []],
        'a rotation': [() => store.rotate(ID, NEW, NOTHING), [NEW], []],
        'a rotation to another user': [
          () => store.rotate(ID, NEW, delta({}, [], { userId: 'bob' })),
          [],
          [NEW],
        ],
        'a rotation that removes the user': [
          () => store.rotate(ID, NEW, delta({}, [], { userId: null })),
          [],
          [],
        ],
        'its destruction': [() => store.destroy(ID), [], []],
        'its expiry': [() => store.touch(ID, now - 1), [], []],
        'its expiry and a load': [() => store.touch(ID, now - 1).then(() => store.load(ID)), [], []],
        'its expiry and a sweep': [() => store.touch(ID, now - 1).then(() => store.sweep?.()), [], []],
        'its expiry and a creation under its id': [
          () => store.touch(ID, now - 1).then(() => store.create(ID, { ...record(), userId: 'bob' })),
          [],
          [ID],
        ],
        clear: [async () => store.clear?.() ?? store.destroy(ID), [], []],
        'a second creation, which is refused': [
          () => store.create(ID, { ...record(), userId: 'bob' }),
          [ID],
          [],
        ],
      };
      for (const [move, [run, alices, bobs]] of Object.entries(transitions)) {
        it(`listByUser after ${move}`, async () => {
          if (!store.listByUser) return;
          await store.create(ID, { ...record(), userId: 'alice' });
          assert.deepEqual(await sessionsOf('alice'), [ID]);
          await run();
          assert.deepEqual([await sessionsOf('alice'), await sessionsOf('bob')], [alices, bobs]);
          // Twice, because the first listing may have repaired the index.
          assert.deepEqual([await sessionsOf('alice'), await sessionsOf('bob')], [alices, bobs]);
        });
      }

      it('listByUser gives every session of a user, as load does, and of nobody else', async () => {
        if (!store.listByUser) return;
        await store.create(ID, { ...record({ a: '1' }), userId: 'alice' });
        await store.create(OTHER, { ...record({ b: '2' }), userId: 'alice' });
        await store.create(NEW, { ...record(), userId: 'alice2' });
        const listed = await store.listByUser('alice');
        assert.deepEqual([...listed.keys()].sort(), [ID, OTHER].sort());
        for (const id of [ID, OTHER]) assert.deepEqual(listed.get(id), await store.load(id));
        listed.get(ID)?.fields.set('a', 'changed outside');
        assert.deepEqual(await fieldsOf(ID), { a: '1' });
        for (const nobody of ['', 'ali', 'Alice', 'undefined', 'null'])
          assert.deepEqual(await sessionsOf(nobody), []);
      });

      /** Waits for `count` turns of the event loop, so that two operations overlap differently in each round. */
      const turns = async (count: number): Promise<void> => {
        for (; count > 0; count--) await new Promise((resolve) => setImmediate(resolve));
      };

      /** Ends a user's sessions as "sign out everywhere" does. Ends when every listed session was there to destroy. */
      const signOut = async (userId: string): Promise<void> => {
        for (let missed = true; missed;) {
          const ended = await Promise.all((await sessionsOf(userId)).map((id) => store.destroy(id)));
          missed = ended.includes(false);
        }
      };

      const idOf = (...numbers: number[]): string =>
        numbers
          .map((number) => number.toString(16).padStart(8, '0'))
          .join('')
          .padStart(64, '0');

      it('listByUser beside a rotation has the session under one of its ids', async () => {
        if (!store.listByUser) return;
        for (let round = 0; round < 24; round++) {
          const [id, next] = [idOf(round, 1), idOf(round, 2)];
          await store.create(id, { ...record(), userId: 'alice' });
          const [listed, rotated] = await Promise.all([
            turns(round < 12 ? 11 - round : 0).then(() => sessionsOf('alice')),
            turns(round < 12 ? 0 : round - 12).then(() => store.rotate(id, next, NOTHING)),
          ]);
          assert.equal(rotated, 'saved');
          assert.ok(listed.includes(id) || listed.includes(next), `missed in round ${round}`);
          await store.destroy(next);
        }
      });

      it('ending all sessions of a user beside their rotations leaves none under any id', async () => {
        if (!store.listByUser) return;
        for (let round = 0; round < 8; round++) {
          const ids = Array.from({ length: 12 }, (_, one) => [idOf(round, one, 1), idOf(round, one, 2)]);
          for (const [id] of ids) await store.create(id, { ...record(), userId: 'alice' });
          await Promise.all([
            turns(round).then(() => signOut('alice')),
            ...ids.map(([id, next], one) => turns(one).then(() => store.rotate(id, next, NOTHING))),
          ]);
          for (const id of ids.flat()) assert.equal(await store.load(id), undefined);
          assert.deepEqual(await sessionsOf('alice'), []);
        }
      });

      it('listByUser works for any user id', async () => {
        if (!store.listByUser) return;
        const users = ['__proto__', '../alice', 'a:b', '*', 'ünïcödé 🎉', '\n', 'x'.repeat(1000)];
        for (const [index, userId] of users.entries())
          await store.create(`${index}`.repeat(64), { ...record(), userId });
        for (const [index, userId] of users.entries())
          assert.deepEqual(await sessionsOf(userId), [`${index}`.repeat(64)]);
      });

      it('adopt takes a session of another store, and shares nothing with the caller', async () => {
        if (!store.adopt) return;
        const theirs = { ...record({ a: '1' }), userId: 'alice' };
        await store.adopt(ID, theirs);
        theirs.fields.set('a', 'changed outside');
        assert.deepEqual(await fieldsOf(ID), { a: '1' });
        assert.equal((await store.load(ID))?.userId, 'alice');
        assert.equal(await store.commit(ID, delta({ b: '2' })), 'saved');
        assert.deepEqual(await fieldsOf(ID), { a: '1', b: '2' });
      });

      it('adopt leaves a session that is here already as it is', async () => {
        if (!store.adopt) return;
        await store.create(ID, record({ a: 'newer' }));
        await store.adopt(ID, record({ a: 'older' }));
        assert.deepEqual(await fieldsOf(ID), { a: 'newer' });
      });

      it('count counts live sessions only', async () => {
        if (!store.count) return;
        assert.equal(await store.count(), 0);
        for (const id of [ID, OTHER, NEW]) await store.create(id, record());
        assert.equal(await store.count(), 3);
        await store.destroy(ID);
        await store.touch(OTHER, now - 1);
        assert.equal(await store.count(), 1);
      });

      it('clear removes everything', async () => {
        if (!store.clear) return;
        for (const id of [ID, OTHER]) await store.create(id, record());
        await store.clear();
        assert.equal(await store.load(ID), undefined);
        assert.equal(await store.load(OTHER), undefined);
      });

      it('sweep removes what has expired and nothing else', async () => {
        if (!store.sweep) return;
        for (const id of [ID, OTHER]) await store.create(id, record());
        await store.touch(OTHER, now - 1);
        assert.equal(await store.sweep(), 1);
        assert.equal(await store.sweep(), 0);
        assert.ok(await store.load(ID));
      });

      it('ping answers where the store can be reached', async () => {
        await store.ping?.();
      });
    });
  });
}
