import { AsyncLocalStorage, executionAsyncResource } from 'node:async_hooks';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { MemoryStore, type SessionRecord } from 'nest-session';
import * as fc from 'fast-check';
import { ShardedMap } from '../../../lib/stores/memory/sharded-map.js';
import { Clock } from '../../support/app.js';

const run = promisify(execFile);

describe('MemoryStore', () => {
  let clock: Clock;
  let store: MemoryStore;
  beforeEach(() => {
    clock = new Clock();
    store = new MemoryStore({ clock: clock.read });
  });
  afterEach(() => store.close());

  function record(seconds = 100, fields: Record<string, string> = { a: '1' }): SessionRecord {
    const { now } = clock;
    return {
      createdAt: now,
      lastAccessedAt: now,
      expiresAt: now + seconds * 1000,
      fields: new Map(Object.entries(fields)),
    };
  }

  const nothing = { set: new Map<string, string>(), delete: [], header: {} };

  it('creates once, and never overwrites', async () => {
    expect(await store.create('id', record())).toBe('created');
    expect(await store.create('id', record(100, { a: 'other' }))).toBe('exists');
    expect((await store.load('id'))?.fields.get('a')).toBe('1');
  });

  it('takes the place of an expired record that nobody collected', async () => {
    await store.create('id', record(1));
    clock.pass(1);
    expect(await store.create('id', record(100, { b: '2' }))).toBe('created');
    expect((await store.load('id'))?.fields).toEqual(new Map([['b', '2']]));
  });

  it('shares nothing it takes in or hands out', async () => {
    const taken = record();
    await store.create('id', taken);
    taken.fields.set('a', 'changed outside');
    const handed = (await store.load('id')) as SessionRecord;
    expect(handed.fields.get('a')).toBe('1');
    handed.fields.set('a', 'changed outside');
    handed.fields.delete('a');
    expect((await store.load('id'))?.fields.get('a')).toBe('1');
  });

  it('merges what each commit changed', async () => {
    await store.create('id', record(100, { a: '1', b: '1', c: '1' }));
    await Promise.all([
      store.commit('id', { set: new Map([['a', '2']]), delete: ['b'], header: { userId: 'alice' } }),
      store.commit('id', { set: new Map([['d', '4']]), delete: [], header: { lastAccessedAt: 5 } }),
    ]);
    const loaded = await store.load('id');
    expect(loaded).toMatchObject({ userId: 'alice', lastAccessedAt: 5 });
    expect(Object.fromEntries(loaded?.fields ?? [])).toEqual({ a: '2', c: '1', d: '4' });
    await store.commit('id', { ...nothing, header: { userId: null } });
    expect((await store.load('id'))?.userId).toBeUndefined();
  });

  it.each(['commit', 'touch', 'rotate', 'destroy'] as const)('%s never creates', async (operation) => {
    const attempt = (): Promise<unknown> =>
      ({
        commit: () => store.commit('id', { ...nothing, set: new Map([['a', '2']]) }),
        touch: () => store.touch('id', clock.now + 1000),
        rotate: () => store.rotate('id', 'new', nothing),
        destroy: () => store.destroy('id'),
      })[operation]();
    const gone = operation === 'destroy' ? false : 'gone';
    expect(await attempt()).toBe(gone);
    await store.create('id', record(1));
    clock.pass(1);
    expect(await attempt()).toBe(gone);
    await store.create('id', record());
    await store.destroy('id');
    expect(await attempt()).toBe(gone);
    expect(await store.count()).toBe(0);
  });

  it('rotates once: the id is gone, the record is under the new one', async () => {
    await store.create('id', record());
    const outcomes = await Promise.all([
      store.rotate('id', 'one', { ...nothing, set: new Map([['b', '2']]) }),
      store.rotate('id', 'two', nothing),
    ]);
    expect(outcomes).toEqual(['saved', 'gone']);
    expect(await store.load('id')).toBeUndefined();
    expect(await store.load('two')).toBeUndefined();
    expect(Object.fromEntries((await store.load('one'))?.fields ?? [])).toEqual({ a: '1', b: '2' });
    expect(await store.count()).toBe(1);
  });

  it.each(['commit', 'touch', 'rotate', 'destroy', 'create'] as const)(
    'ends a record at its instant for %s, not a millisecond later',
    async (operation) => {
      await store.create('id', record(100));
      clock.pass(100);
      const outcome = await {
        commit: () => store.commit('id', nothing),
        touch: () => store.touch('id', clock.now + 1000),
        rotate: () => store.rotate('id', 'new', nothing),
        destroy: () => store.destroy('id'),
        create: () => store.create('id', record(100)),
      }[operation]();
      expect(outcome).toBe({ destroy: false, create: 'created' }[operation as string] ?? 'gone');
    },
  );

  it('ends a record at its instant, and says so to whoever asked for it, once', async () => {
    await store.create('id', record(100));
    const reports: string[] = [];
    clock.now += 99_999;
    expect(await store.load('id', (why) => reports.push(why))).toBeDefined();
    clock.now += 1;
    expect(await store.load('id', (why) => reports.push(why))).toBeUndefined();
    expect(await store.load('id', (why) => reports.push(why))).toBeUndefined();
    expect(reports).toEqual(['expired']);
  });

  it('moves the end with touch and with a commit, sooner and later', async () => {
    await store.create('id', record(100));
    await store.touch('id', clock.now + 200_000);
    clock.pass(150);
    expect(await store.load('id')).toBeDefined();
    await store.commit('id', { ...nothing, header: { expiresAt: clock.now + 1000 } });
    clock.pass(1);
    expect(await store.load('id')).toBeUndefined();
  });

  it('sweeps what has expired and nothing else, in order, letting others run in between', async () => {
    for (let index = 0; index < 5000; index++) await store.create(`id${index}`, record(1 + (index % 100)));
    clock.pass(50);
    let turns = 0;
    let next = setImmediate(function turn() {
      turns++;
      next = setImmediate(turn);
    });
    expect(await store.sweep()).toBe(2500);
    clearImmediate(next);
    expect(turns).toBeGreaterThanOrEqual(2);
    expect(await store.count()).toBe(2500);
  });

  it('makes room by evicting the session that would expire first', async () => {
    store = new MemoryStore({ clock: clock.read, maxSessions: 3 });
    await store.create('a', record(300));
    await store.create('b', record(100));
    await store.create('c', record(200));
    await store.touch('b', clock.now + 400_000);
    await store.create('d', record(50));
    expect(await store.load('c')).toBeUndefined();
    await store.create('e', record(500));
    expect(await store.load('d')).toBeUndefined();
    expect(await store.count()).toBe(3);
    await store.rotate('a', 'a2', nothing);
    expect(await store.count()).toBe(3);
  });

  describe('that is full', () => {
    const ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
    const user = (seconds: number, userId = 'alice'): SessionRecord => ({ ...record(seconds), userId });
    /** Which of the sessions are there, in order. */
    async function left(): Promise<string> {
      const found = await Promise.all(ids.map(async (id) => ((await store.load(id)) ? id : '')));
      return found.join('');
    }

    beforeEach(() => {
      store = new MemoryStore({ clock: clock.read, maxSessions: 4 });
    });

    it('parts with visitors before users, and in the order of their expiry', async () => {
      await store.create('a', user(1));
      await store.create('b', record(300));
      await store.create('c', record(200));
      await store.create('d', user(2));
      await store.create('e', record(100));
      expect(await left()).toBe('abde');
      await store.create('f', user(3));
      expect(await left()).toBe('abdf');
      await store.create('g', user(400));
      expect(await left()).toBe('adfg');
      await store.create('h', user(500));
      expect(await left()).toBe('dfgh');
    });

    it('loses one user at most to visitors, however many come', async () => {
      for (const [index, id] of ['a', 'b', 'c', 'd'].entries()) await store.create(id, user(1 + index));
      for (let index = 0; index < 60; index++) await store.create(`visitor ${index}`, record(1000));
      expect(await left()).toBe('bcd');
      expect([await store.count(), await store.load('visitor 59')]).toMatchObject([4, {}]);
    });

    it('parts with what has expired before anybody, also when it was a user’s', async () => {
      await store.create('a', user(1));
      await store.create('b', record(300));
      await store.create('c', record(300));
      await store.create('d', user(300));
      clock.pass(1);
      await store.create('e', record(300));
      expect(await left()).toBe('bcde');
    });

    const logins: Record<string, () => Promise<unknown>> = {
      commit: () => store.commit('a', { ...nothing, header: { userId: 'alice' } }),
      'commit that extends': () =>
        store.commit('a', { ...nothing, header: { userId: 'alice', expiresAt: clock.now + 5000 } }),
      rotation: async () => {
        await store.rotate('a', 'new', { ...nothing, header: { userId: 'alice' } });
        await store.rotate('new', 'a', nothing);
      },
    };
    it.each(Object.keys(logins))('counts a visitor as a user from the login on, by %s', async (how) => {
      await store.create('a', record(1));
      await logins[how]();
      for (const [index, id] of ['b', 'c', 'd', 'e', 'f'].entries()) {
        await store.create(id, record(295 + index));
      }
      expect(await left()).toBe('adef');
      await store.touch('a', clock.now + 400_000);
      clock.pass(300);
      expect([await left(), await store.count()]).toEqual(['a', 1]);
      clock.pass(100);
      expect(await store.sweep()).toBe(1);
    });

    const logouts: Record<string, () => Promise<unknown>> = {
      commit: () => store.commit('a', { ...nothing, header: { userId: null } }),
      'commit that extends': () =>
        store.commit('a', { ...nothing, header: { userId: null, expiresAt: clock.now + 500 } }),
      rotation: async () => {
        await store.rotate('a', 'new', { ...nothing, header: { userId: null } });
        await store.rotate('new', 'a', nothing);
      },
    };
    it.each(Object.keys(logouts))(
      'counts a user as a visitor when it is nobody’s any more, by %s',
      async (how) => {
        await store.create('a', user(1));
        await logouts[how]();
        for (const id of ['b', 'c', 'd', 'e']) await store.create(id, user(1));
        expect(await left()).toBe('bcde');
      },
    );

    it('parts with those that the rule says, whatever was done before', async () => {
      const step = fc.record({
        operation: fc.constantFrom(
          'create',
          'create',
          'create',
          'commit',
          'rotate',
          'touch',
          'destroy',
          'pass',
        ),
        id: fc.constantFrom(...ids),
        userId: fc.constantFrom('alice', 'bob', undefined),
        milliseconds: fc.integer({ min: 1, max: 20_000 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 80, size: 'max' }), async (steps) => {
          const one = new MemoryStore({ clock: clock.read, maxSessions: 4 });
          /** By id: whose it is, and when it ends; no two at one time. */
          const model = new Map<string, { userId: string | undefined; expiresAt: number }>();
          const rank = ({ userId, expiresAt }: { userId?: string; expiresAt: number }): number =>
            expiresAt <= clock.now ? 0 : userId === undefined ? 1 : 2;
          for (const [index, { operation, id, userId, milliseconds }] of steps.entries()) {
            const expiresAt = clock.now + milliseconds + index / 100;
            const delta = { ...nothing, header: { userId: userId ?? null, expiresAt } };
            const known = model.get(id);
            const live = known && known.expiresAt > clock.now ? known : undefined;
            if (known && !live && operation !== 'pass') model.delete(id);
            if (operation === 'pass') clock.pass(milliseconds / 1000);
            if (operation === 'create') {
              await one.create(id, { ...record(), userId, expiresAt });
              if (!live && model.size === 4) {
                const [evicted] = [...model].toSorted(
                  ([, a], [, b]) => rank(a) - rank(b) || a.expiresAt - b.expiresAt,
                )[0];
                model.delete(evicted);
              }
              if (!live) model.set(id, { userId, expiresAt });
            }
            if (operation === 'destroy') {
              await one.destroy(id);
              model.delete(id);
            }
            if (operation === 'touch') {
              await one.touch(id, expiresAt);
              if (live) live.expiresAt = expiresAt;
            }
            if (operation === 'commit') {
              await one.commit(id, delta);
              if (live) model.set(id, { userId, expiresAt });
            }
            if (operation === 'rotate') {
              await one.rotate(id, `${index}`, delta);
              await one.rotate(`${index}`, id, nothing);
              if (live) model.set(id, { userId, expiresAt });
            }
          }
          const expected = [...model].filter(([, { expiresAt }]) => expiresAt > clock.now).map(([id]) => id);
          const found = await Promise.all(ids.map(async (id) => ((await one.load(id)) ? id : '')));
          expect(found.filter(Boolean)).toEqual(expected.toSorted());
          expect(await one.count()).toBe(expected.length);
          await one.close();
        }),
      );
    });
  });

  it('forgets whom an evicted, a swept, a replaced and a cleared session belonged to', async () => {
    store = new MemoryStore({ clock: clock.read, maxSessions: 2 });
    const of = (userId: string, seconds: number): SessionRecord => ({ ...record(seconds), userId });
    const listed = async (userId: string) => [...(await store.listByUser(userId)).keys()];
    await store.create('a', of('alice', 1));
    await store.create('b', of('alice', 2));
    await store.create('c', of('bob', 3));
    expect([await listed('alice'), await listed('bob')]).toEqual([['b'], ['c']]);
    clock.pass(2);
    expect([await listed('alice'), await listed('bob')]).toEqual([[], ['c']]);
    await store.create('b', of('bob', 10));
    expect([await listed('alice'), (await listed('bob')).toSorted()]).toEqual([[], ['b', 'c']]);
    clock.pass(1);
    await store.sweep();
    expect(await listed('bob')).toEqual(['b']);
    await store.clear();
    expect([await listed('bob'), await store.count()]).toEqual([[], 0]);
    // Under the same id as one that was cleared, and would have expired by now.
    await store.create('b', of('bob', 200));
    clock.pass(100);
    expect([await store.sweep(), await listed('bob')]).toEqual([0, ['b']]);
    await store.clear();
    await store.create('d', of('bob', 10));
    expect([await listed('bob'), await store.count()]).toEqual([['d'], 1]);
    clock.pass(10);
    expect(await store.count()).toBe(0);
  });

  it('keeps nothing of users whose sessions have ended, however they ended', async () => {
    const { set } = ShardedMap.prototype;
    const maps = new Set<ShardedMap<unknown>>();
    ShardedMap.prototype.set = function (...args) {
      maps.add(this);
      return set.apply(this, args);
    };
    try {
      for (const user of ['alice', 'bob', 'carol']) {
        for (const id of [1, 2, 3]) await store.create(`${user}${id}`, { ...record(), userId: user });
        await store.destroy(`${user}1`);
        await store.commit(`${user}2`, { ...nothing, header: { userId: null } });
        await store.rotate(`${user}3`, `${user}4`, { ...nothing, header: { userId: 'dora' } });
      }
      expect([...maps].map(({ size }) => size)).toEqual([6, 1]);
      clock.pass(100);
      await store.sweep();
      expect([...maps].map(({ size }) => size)).toEqual([0, 0]);
    } finally {
      ShardedMap.prototype.set = set;
    }
  });

  it('lists the same as it loads, after whatever was done to the many sessions of a few users', async () => {
    const ids = Array.from({ length: 6 }, (_, index) => `${index}`.repeat(64));
    const users = ['alice', 'al', 'a', ''];
    const user = fc.constantFrom(...users, undefined);
    const step = fc.record({
      operation: fc.constantFrom(
        'create',
        'create',
        'commit',
        'commit',
        'rotate',
        'destroy',
        'touch',
        'pass',
      ),
      id: fc.constantFrom(...ids),
      user,
      seconds: fc.integer({ min: 1, max: 20 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 80, size: 'max' }), async (steps) => {
        const one = new MemoryStore({ clock: clock.read });
        const known = new Set(ids);
        for (const [index, { operation, id, user: userId, seconds }] of steps.entries()) {
          const expiresAt = clock.now + seconds * 1000;
          const delta = { set: new Map([['n', `${index}`]]), delete: [], header: { userId: userId ?? null } };
          if (operation === 'create') await one.create(id, { ...record(seconds), userId });
          if (operation === 'commit') await one.commit(id, delta);
          if (operation === 'rotate') await one.rotate(id, `${index}r`, delta);
          if (operation === 'destroy') await one.destroy(id);
          if (operation === 'touch') await one.touch(id, expiresAt);
          if (operation === 'pass') clock.pass(1);
          known.add(`${index}r`);
          const listed = new Map<string, SessionRecord>();
          for (const name of users) for (const entry of await one.listByUser(name)) listed.set(...entry);
          const loaded = new Map<string, SessionRecord>();
          for (const each of known) {
            const found = await one.load(each);
            if (found && found.userId !== undefined) loaded.set(each, found);
          }
          expect(listed).toEqual(loaded);
        }
        await one.close();
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  it('shares nothing it lists', async () => {
    await store.create('id', { ...record(), userId: 'alice' });
    (await store.listByUser('alice')).get('id')?.fields.clear();
    expect((await store.listByUser('alice')).get('id')?.fields).toEqual(new Map([['a', '1']]));
  });

  it('holds keys that are names of Object.prototype like any other', async () => {
    for (const id of ['__proto__', 'constructor', '']) {
      await store.create(id, record(100, { ['__proto__']: '1' }));
      expect(await store.load(id)).toBeDefined();
    }
    expect(await store.load('toString')).toBeUndefined();
  });

  it.each([0, -1, Number.NaN])('refuses maxSessions: %s', (maxSessions) => {
    expect(() => new MemoryStore({ maxSessions })).toThrow(
      `Session option MemoryStore maxSessions: got ${maxSessions}, but it takes a number of at least 1.`,
    );
  });

  it('refuses an interval that is none', () => {
    expect(() => new MemoryStore({ sweepInterval: 'often' })).toThrow(
      /MemoryStore sweepInterval: got 'often'/,
    );
  });

  it('lets the process end, though its timer runs', async () => {
    const script = `
      import { MemoryStore } from './dist/index.js';
      const now = Date.now();
      await new MemoryStore().create('id', { createdAt: now, lastAccessedAt: now, expiresAt: now + 1e6, fields: new Map() });
      console.log('ended by itself');
    `;
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script]);
    expect(stdout).toBe('ended by itself\n');
  });

  it('has no timer before its first session, none after close, and none that holds a request', async () => {
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    const requests = new AsyncLocalStorage<object>();
    let seen: unknown = 'nothing';
    store = new MemoryStore({
      sweepInterval: '1ms',
      clock: () => {
        // Called in the request, and later by the timer: the timer must not see the request.
        seen = requests.getStore();
        return clock.now;
      },
    });
    expect(timers()).toBe(before);
    await requests.run({ a: 'request' }, () => store.create('id', record(1)));
    expect(executionAsyncResource()).toBeDefined();
    const swept = new Promise<void>((resolve) => {
      const { sweep } = store;
      store.sweep = async function (this: MemoryStore) {
        const removed = await sweep.call(this);
        resolve();
        return removed;
      };
    });
    await swept;
    expect(seen).toBeUndefined();
    await store.close();
  });
});
