import { AsyncLocalStorage, executionAsyncResource } from 'node:async_hooks';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { MemoryStore, type SessionRecord } from 'nest-session';
import { ExpiryQueue } from '../lib/stores/memory/expiry-queue.js';
import { Clock } from './support/app.js';

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

describe('the expiry queue', () => {
  it('gives entries in the order of their expiry, whatever was moved or removed in between', () => {
    const queue = new ExpiryQueue<{ expiresAt: number; position: number }>();
    let seed = 7;
    const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
    const entries = Array.from({ length: 1000 }, () => ({ expiresAt: random(500), position: 0 }));
    for (const entry of entries) queue.add(entry);
    const left = new Set(entries);
    for (const entry of entries) {
      const fate = random(3);
      if (fate === 0) {
        queue.remove(entry);
        left.delete(entry);
      } else if (fate === 1) {
        entry.expiresAt = random(500);
        queue.moved(entry);
      }
    }
    const expected = [...left].map((entry) => entry.expiresAt).sort((a, b) => a - b);
    const actual: number[] = [];
    for (let first = queue.first; first; first = queue.first) {
      actual.push(first.expiresAt);
      queue.remove(first);
    }
    expect(actual).toEqual(expected);
  });
});
