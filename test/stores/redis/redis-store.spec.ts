import { jest } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';
import { createHash } from 'node:crypto';
import { SessionConfigurationError } from 'nest-session';
import { type RedisClient, RedisStore } from 'nest-session/redis';
import { delta, newId, outcome, record } from './support/records.js';
import { RedisServer } from './support/redis-server.js';
import { WITHOUT_SCRIPTS } from './support/without-scripts.js';

let server: RedisServer;
let client: Redis;
beforeAll(async () => {
  server = await RedisServer.start();
  client = new Redis(server.port);
});
beforeEach(() => server.admin.flushall());
afterAll(async () => {
  client.disconnect();
  await server.stop();
});

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** What the server is told while something runs, without the answers and the tests' own commands. */
async function commandsOf(run: () => Promise<unknown>): Promise<string[]> {
  const seen: string[] = [];
  const monitor = await server.admin.monitor();
  // Those a script runs come from 'lua'.
  monitor.on(
    'monitor',
    (_, args: string[], source: string) => source !== 'lua' && seen.push(args[0].toLowerCase()),
  );
  await run();
  await client.echo('end');
  while (!seen.includes('echo')) await new Promise((resolve) => setImmediate(resolve));
  monitor.disconnect();
  return seen.slice(0, seen.indexOf('echo'));
}

describe('what it writes', () => {
  it('is one hash for a session, the header apart from the fields, and one sorted set for a user', async () => {
    const store = new RedisStore({ client });
    const id = newId();
    const { createdAt, expiresAt, ...rest } = record({ e: '1', '': '2' }, 'alice');
    await store.create(id, { createdAt, expiresAt, ...rest });
    const index = `session:${sha256('alice')}:user`;
    expect((await server.admin.keys('*')).toSorted()).toEqual([`session:${id}`, index].toSorted());
    expect(await server.admin.hgetall(`session:${id}`)).toEqual({
      c: `${createdAt}`,
      a: `${createdAt}`,
      e: `${expiresAt}`,
      u: 'alice',
      '.e': '1',
      '.': '2',
    });
    expect(await server.admin.zrange(index, '0', '-1')).toEqual([id]);
  });

  it('lives a little longer than it says, whatever clock the application has', async () => {
    for (const skew of [0, -1e9, 1e9]) {
      const now = Date.now() + skew;
      const store = new RedisStore({ client, clock: () => now });
      const id = newId();
      await store.create(id, {
        createdAt: now,
        lastAccessedAt: now,
        expiresAt: now + 60_000,
        fields: new Map(),
      });
      const lives = await server.admin.pttl(`session:${id}`);
      expect(lives).toBeGreaterThan(60_000);
      expect(lives).toBeLessThanOrEqual(60_000 + 120_000);
      await store.touch(id, now + 600_000);
      expect(await server.admin.pttl(`session:${id}`)).toBeGreaterThan(600_000);
    }
  });

  it('keeps an index as long as the longest of its sessions, and forgets those that ended long ago', async () => {
    let now = Date.now();
    const store = new RedisStore({ client, clock: () => now });
    const [long, short] = [newId(), newId()];
    await store.create(long, { ...record({}, 'alice'), expiresAt: now + 86_400_000 });
    await store.create(short, { ...record({}, 'alice'), expiresAt: now + 1000 });
    const index = `session:${sha256('alice')}:user`;
    expect(await server.admin.pttl(index)).toBeGreaterThan(86_400_000);
    now += 3_600_000;
    await store.touch(long, now + 86_400_000);
    expect(await server.admin.zrange(index, '0', '-1')).toEqual([long]);
  });

  it('finds a session that was extended without its index having been told', async () => {
    let now = Date.now();
    const store = new RedisStore({ client, clock: () => now });
    const id = newId();
    await store.create(id, { ...record({}, 'alice'), expiresAt: now + 600_000 });
    now += 590_000;
    // The process died between the two commands of a touch.
    await server.admin.hset(`session:${id}`, 'e', `${now + 600_000}`);
    // This one's entry makes the index forget what ended long ago.
    await store.create(newId(), { ...record({}, 'alice'), expiresAt: now + 600_000 });
    now += 590_000;
    expect([...(await store.listByUser('alice')).keys()]).toContain(id);
  });
});

describe('what it costs', () => {
  it.each<[string, string[], (store: RedisStore, id: string) => Promise<unknown>]>([
    ['a load', ['hgetall'], (store, id) => store.load(id)],
    ['a commit', ['evalsha'], (store, id) => store.commit(id, delta({ a: '2' }, ['b']))],
    ['a touch of a visitor', ['evalsha'], (store, id) => store.touch(id, Date.now() + 7_200_000)],
    ['a creation', ['evalsha'], (store) => store.create(newId(), record())],
    ['a rotation', ['evalsha'], (store, id) => store.rotate(id, newId(), delta())],
    ['a login', ['evalsha'], (store, id) => store.rotate(id, newId(), delta({}, [], { userId: 'alice' }))],
    // Whose it is comes out by the first.
    [
      'a rotation of a user’s session',
      ['evalsha', 'evalsha'],
      async (store, id) => store.rotate(`b${id.slice(1)}`, newId(), delta()),
    ],
    // Into the index, into the session, and into the index again: in case it was taken out of there in between.
    [
      'a user in a session whose id is known',
      ['evalsha', 'evalsha', 'evalsha'],
      (store, id) => store.commit(id, delta({}, [], { userId: 'alice' })),
    ],
    ['a destruction', ['evalsha'], (store, id) => store.destroy(id)],
  ])('%s: %j', async (_, commands, run) => {
    const store = new RedisStore({ client });
    // The first time scripts are sent as text.
    for (const used of [newId(), newId()]) {
      await store.create(used, record({}, 'bob'));
      await store.commit(used, delta({ b: '1' }));
      await store.rotate(used, newId(), delta());
      await store.destroy(used);
    }
    const id = newId();
    await store.create(id, record());
    await store.create(`b${id.slice(1)}`, record({}, 'bob'));
    expect(await commandsOf(() => run(store, id))).toEqual(commands);
  });
});

it('does not remove a session that was extended since it was found to have expired', async () => {
  const id = newId();
  const store = new RedisStore({ client });
  await store.create(id, record());
  // An application whose clock is two hours ahead; another extends the session while the first is thinking.
  const slow: RedisClient = {
    status: 'ready',
    options: {},
    connect: () => client.connect(),
    once: () => {},
    async call(command, args) {
      const reply = await client.call(command, args);
      if (/^hgetall$/i.test(command)) await store.touch(id, Date.now() + 86_400_000);
      return reply;
    },
  };
  const ahead = new RedisStore({ client: slow, clock: () => Date.now() + 7_200_000 });
  expect(await ahead.load(id)).toBeUndefined();
  expect(await store.load(id)).toBeDefined();
});

describe('two applications on one server', () => {
  it.each([
    ['session:', 'session:b:'],
    ['session:', 'session:user:'],
    ['s', 'sa'],
    ['s', `s${'a'.repeat(64)}`],
    ['a*', 'ab'],
    ['[ab]', 'a'],
    ['a?', 'ab'],
    ['a\\', 'a'],
  ])('%s and %s leave each other alone', async (one, other) => {
    const stores = [one, other].map((prefix) => new RedisStore({ client, prefix }));
    await server.admin.set(`${one}setting`, 'mine');
    await server.admin.set(`${one}${'a'.repeat(63)}`, 'mine');
    for (const store of stores) {
      for (let count = 0; count < 3; count++) await store.create(newId(), record({}, 'alice'));
    }
    expect(await Promise.all(stores.map((store) => store.count()))).toEqual([3, 3]);
    await stores[0].clear();
    expect(await Promise.all(stores.map((store) => store.count()))).toEqual([0, 3]);
    expect((await stores[1].listByUser('alice')).size).toBe(3);
    await stores[1].clear();
    expect((await server.admin.keys('*')).toSorted()).toEqual(
      [`${one}${'a'.repeat(63)}`, `${one}setting`].toSorted(),
    );
  });

  it('of one prefix, on databases of their own', async () => {
    const elsewhere = new Redis(server.port, { db: 1 });
    const id = newId();
    await new RedisStore({ client }).create(id, record());
    expect(await new RedisStore({ client: elsewhere }).load(id)).toBeUndefined();
    elsewhere.disconnect();
  });
});

it('counts, sweeps and clears many thousands without asking for all keys at once', async () => {
  const store = new RedisStore({ client });
  const ids = Array.from({ length: 3000 }, newId);
  await Promise.all(ids.map((id) => store.create(id, record())));
  await Promise.all(ids.slice(0, 1000).map((id) => store.touch(id, Date.now() - 1)));
  const commands = await commandsOf(async () => {
    expect(await store.sweep()).toBe(1000);
    expect(await store.count()).toBe(2000);
    await store.clear();
  });
  expect(commands).not.toContain('keys');
  expect(await server.admin.dbsize()).toBe(0);
});

describe('whether the server runs scripts', () => {
  const commandsOfCommit = (store: RedisStore): Promise<string[]> =>
    commandsOf(() => store.commit(newId(), delta()));

  it('is asked once', async () => {
    const store = new RedisStore({ client });
    expect((await commandsOfCommit(store)).slice(0, 2)).toEqual(['info', 'eval']);
    expect(await commandsOfCommit(store)).not.toContain('info');
  });

  it.each([
    [true, 'evalsha'],
    [false, 'set'],
  ])('is not asked when it is said: %s', async (scripting, first) => {
    expect((await commandsOfCommit(new RedisStore({ client, scripting })))[0]).toBe(first);
  });

  it('is asked again if there was no answer', async () => {
    const limited = await RedisServer.start(...WITHOUT_SCRIPTS);
    await limited.kill();
    const late = new Redis(limited.port, { protocol: 2, retryStrategy: () => 20 });
    late.on('error', () => {});
    const store = new RedisStore({ client: late, commandTimeout: '100ms' });
    expect(await outcome(store.create(newId(), record()))).toBe('refused');
    await limited.restart();
    await late.ping();
    expect(await store.create(newId(), record())).toBe('created');
    late.disconnect();
    await limited.stop();
  });
});

describe('options', () => {
  it.each<[string, object, RegExp]>([
    ['no client', { client: undefined }, /RedisStore client.*a Redis or a Cluster of ioredis/],
    ['the client of another package', { client: { sendCommand() {} } }, /RedisStore client/],
    ['an empty prefix', { prefix: '' }, /RedisStore prefix/],
    ['a prefix that is no text', { prefix: 7 }, /RedisStore prefix/],
    ['unclear scripting', { scripting: 'yes' }, /RedisStore scripting.*'auto', true or false/],
    ['a timeout of nothing', { commandTimeout: 0 }, /RedisStore commandTimeout/],
    ['a timeout in no unit', { commandTimeout: '3 moons' }, /RedisStore commandTimeout/],
    ['a misspelt option', { keyPrefix: 'x' }, /RedisStore\.keyPrefix: there is no such option/],
  ])('%s', (_, options, message) => {
    const make = () => new RedisStore({ client, ...options } as never);
    expect(make).toThrow(SessionConfigurationError);
    expect(make).toThrow(message);
  });

  it('take the clients of ioredis', async () => {
    for (const each of [client, new Cluster([{ port: 1 }], { lazyConnect: true })]) {
      expect(new RedisStore({ client: each })).toBeInstanceOf(RedisStore);
    }
  });
});

describe('a client of the application’s', () => {
  it('stays open when the store is closed, and has no listeners of the store’s', async () => {
    const before = client.eventNames().map((name) => [name, client.listenerCount(name)]);
    const store = new RedisStore({ client });
    await store.create(newId(), record());
    await store.close();
    expect(await client.ping()).toBe('PONG');
    expect(client.eventNames().map((name) => [name, client.listenerCount(name)])).toEqual(before);
  });

  it('may connect lazily', async () => {
    const lazy = new Redis(server.port, { lazyConnect: true });
    const store = new RedisStore({ client: lazy });
    expect(await store.load(newId())).toBeUndefined();
    lazy.disconnect();
  });
});

describe('a client of the store’s own', () => {
  it('is made from a URL, and closed with the store', async () => {
    const store = RedisStore.fromUrl(`${server.url}/2`, { prefix: 'app:' });
    const id = newId();
    expect(await store.create(id, record())).toBe('created');
    expect(await server.admin.info('keyspace')).toContain('db2:keys=1');
    const connections = async (): Promise<number> =>
      String(await server.admin.client('LIST')).split('db=2').length - 1;
    expect(await connections()).toBe(1);
    await store.close();
    while ((await connections()) > 0);
    expect(await outcome(store.load(id))).toBe('refused');
    await store.close();
  });

  it('waits in silence for a server that is not there yet', async () => {
    const late = await RedisServer.start();
    await late.kill();
    const shout = jest.spyOn(console, 'error').mockImplementation(() => {});
    const store = RedisStore.fromUrl(late.url, { commandTimeout: '100ms' });
    expect(await outcome(store.ping())).toBe('refused');
    await late.restart();
    while ((await outcome(store.ping())) === 'refused');
    expect(await store.create(newId(), record())).toBe('created');
    expect(shout).not.toHaveBeenCalled();
    shout.mockRestore();
    await store.close();
    await late.stop();
  });

  it.each(['localhost:6379', 'http://localhost', 'redis://user:hunter2@[', '', undefined])(
    'is not made from %j, which may hold a password and is not shown',
    (url) => {
      const make = () => RedisStore.fromUrl(url as string);
      expect(make).toThrow(SessionConfigurationError);
      expect(make).toThrow(/RedisStore url: it takes redis:\/\//);
      expect(make).not.toThrow(/hunter2/);
    },
  );
});
