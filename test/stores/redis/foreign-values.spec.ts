import { Redis } from 'ioredis';
import { createHash } from 'node:crypto';
import type { DeadRecord } from 'nest-session';
import { RedisStore } from 'nest-session/redis';
import { delta, newId, record } from './support/records.js';
import { RedisServer } from './support/redis-server.js';
import { WITHOUT_SCRIPTS } from './support/without-scripts.js';

describe.each([
  ['with scripts', []],
  ['without scripts', WITHOUT_SCRIPTS],
])('%s', (_, settings) => {
  let server: RedisServer;
  let client: Redis;
  let store: RedisStore;
  beforeAll(async () => {
    server = await RedisServer.start(...settings);
    client = new Redis(server.port, { protocol: 2 });
    store = new RedisStore({ client });
  });
  beforeEach(() => server.admin.flushall());
  afterAll(async () => {
    client.disconnect();
    await server.stop();
  });

  /** What somebody else may have put where a session belongs. */
  const foreign: Record<string, (key: string) => Promise<unknown>> = {
    'a string': (key) => server.admin.set(key, 'hello'),
    'a list': (key) => server.admin.lpush(key, 'hello'),
    'a sorted set': (key) => server.admin.zadd(key, 1, 'hello'),
    'a stream': (key) => server.admin.xadd(key, '*', 'hello', 'world'),
    'a hash of another kind': (key) => server.admin.hset(key, 'user', 'alice'),
    'a header without a date of creation': (key) => server.admin.hset(key, 'e', '9999999999999', 'a', '1'),
    'a header that is nonsense': (key) => server.admin.hset(key, 'c', 'x', 'a', 'y', 'e', 'z'),
    'a header with an empty expiry': (key) => server.admin.hset(key, 'c', '1', 'a', '1', 'e', ''),
    'a header with no end': (key) => server.admin.hset(key, 'c', '1', 'a', '1', 'e', 'inf'),
    'fields without a header': (key) => server.admin.hset(key, '.data:theme', '"dark"'),
    'bytes that are no text': (key) => server.admin.hset(key, Buffer.from([0xff, 0xfe]), Buffer.from([0xff])),
  };

  it.each(Object.entries(foreign))(
    '%s is no session: reported once, removed, and replaced',
    async (__, put) => {
      const id = newId();
      await put(`session:${id}`);
      const reports: DeadRecord[] = [];
      expect(await store.load(id, (why) => reports.push(why))).toBeUndefined();
      expect(await store.load(id, (why) => reports.push(why))).toBeUndefined();
      expect(reports).toHaveLength(1);
      expect(await server.admin.exists(`session:${id}`)).toBe(0);
      await put(`session:${id}`);
      expect(await store.listByUser('alice')).toEqual(new Map());
      expect(await store.sweep()).toBeLessThan(2);
      await store.load(id);
      expect(await store.create(id, record())).toBe('created');
      expect(await server.immortalKeys()).toEqual([]);
    },
  );

  // Lua, unlike JavaScript, takes 'inf' for a number, so that one is no session only once it has been loaded.
  it.each(Object.entries(foreign).filter(([name]) => !name.endsWith('no end')))(
    '%s is no session to change either',
    async (__, put) => {
      const id = newId();
      const key = `session:${id}`;
      await put(key);
      expect(await store.commit(id, delta({ a: '1' }))).toBe('gone');
      expect(await store.touch(id, Date.now() + 1000)).toBe('gone');
      expect(await store.rotate(id, newId(), delta())).toBe('gone');
      expect(await store.create(id, record({ b: '1' }))).toBe('created');
      expect(Object.fromEntries((await store.load(id))?.fields ?? [])).toEqual({ b: '1' });
      await server.admin.del(key);
      await put(key);
      expect(await store.destroy(id)).toBe(false);
      expect(await store.count()).toBe(0);
    },
  );

  it.each(['set', 'lpush', 'sadd'])(
    'an index that was overwritten (%s) is rebuilt by the next login',
    async (how) => {
      const id = newId();
      await store.create(id, record({}, 'alice'));
      const [index] = (await server.admin.keys('*:user')) as [string];
      await server.admin.del(index);
      await server.admin.call(how, index, 'hello');
      expect(await store.listByUser('alice')).toEqual(new Map());
      await server.admin.del(index);
      await server.admin.call(how, index, 'hello');
      await store.touch(id, Date.now() + 7_200_000);
      expect([...(await store.listByUser('alice')).keys()]).toEqual([id]);
      expect(await server.immortalKeys()).toEqual([]);
    },
  );

  it('an entry of an index that leads to another user’s session, to none or to nonsense is removed', async () => {
    const [his, hers] = [newId(), newId()];
    await store.create(his, record({}, 'bob'));
    await store.create(hers, record({}, 'alice'));
    const index = `session:${createHash('sha256').update('alice').digest('hex')}:user`;
    for (const member of [his, newId(), 'no id', '../*'])
      await server.admin.zadd(index, Date.now() + 9_000_000, member);
    expect([...(await store.listByUser('alice')).keys()]).toEqual([hers]);
    expect(await server.admin.zrange(index, '0', '-1')).toEqual([hers]);
  });

  it('text that is no id finds nothing, and reaches no key but its own', async () => {
    await store.create(newId(), record({}, 'alice'));
    const before = (await server.admin.keys('*')).toSorted();
    const [index] = before.filter((key) => key.endsWith(':user'));
    for (const text of ['', '*', index, index.slice('session:'.length), '../x', '\0', 'A'.repeat(64)]) {
      expect(await store.load(text)).toBeUndefined();
      expect(await store.commit(text, delta({ a: '1' }))).toBe('gone');
      expect(await store.destroy(text)).toBe(false);
    }
    // One lock may be about to be released.
    expect((await server.admin.keys('*')).filter((key) => !key.endsWith(':lock')).toSorted()).toEqual(before);
  });
});
