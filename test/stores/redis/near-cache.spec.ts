import { jest } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';
import { once } from 'node:events';
import { Redis as Redis5 } from 'ioredis5';
import { SessionConfigurationError } from 'nest-session';
import { RedisStore } from 'nest-session/redis';
import { Proxy } from './support/proxy.js';
import { delta, newId, record } from './support/records.js';
import { RedisServer } from './support/redis-server.js';
import type { Client } from './support/settings.js';

const ended: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0).toReversed()) await end();
});

let server: RedisServer;
beforeEach(async () => {
  server = await RedisServer.start();
  ended.push(() => server.stop());
});

/** A process that keeps a cache: its store, and how many commands its client has sent. */
interface Caching {
  store: RedisStore;
  client: Client & { sent: number };
  clock: { now: number };
}

function caching(client: Client = new Redis(server.port), maxSessions = 100): Caching {
  const counting = Object.assign(client, { sent: 0 });
  const call = client.call.bind(client);
  counting.call = (...args) => {
    if (args[0] !== 'role') counting.sent++; // which comes four times a second
    return call(...args);
  };
  client.on('error', () => {});
  const clock = { now: Date.now() };
  const store = new RedisStore({ client, cache: { maxSessions }, clock: () => clock.now });
  ended.push(
    () => client.disconnect(),
    () => store.close(),
  );
  return { store, client: counting, clock };
}

/** The other process, which has no cache. */
function another(): RedisStore {
  const client = new Redis(server.port);
  ended.push(() => client.disconnect());
  return new RedisStore({ client });
}

/** A client, and the connection that the store makes of it. */
function withChannel(
  options: object = {},
  { port = server.port } = {},
): { client: Redis; channel: () => Redis } {
  const client = new Redis(port);
  const duplicate = client.duplicate.bind(client);
  let made: Redis | undefined;
  client.duplicate = (given) => (made = duplicate({ ...given, ...options }));
  return { client, channel: () => made as Redis };
}

/** Whether a load was answered without asking the server. */
async function isHot({ store, client }: Caching, id: string): Promise<boolean> {
  const { sent } = client;
  await store.load(id);
  return client.sent === sent;
}

async function heated(cache: Caching, fields: Record<string, string> = { a: '1' }): Promise<string> {
  const id = newId();
  await cache.store.create(id, record(fields, 'alice'));
  await hot(cache, id);
  return id;
}

/** The channel needs a moment before it vouches for anything. */
async function hot(cache: Caching, id: string): Promise<void> {
  while (!(await isHot(cache, id))) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Looks until it is seen; a test that waits for what never comes fails by its own timeout. */
async function seen(look: () => Promise<boolean>): Promise<void> {
  while (!(await look())) await new Promise((resolve) => setImmediate(resolve));
}

it.each([
  ['ioredis 6', () => new Redis(server.port)],
  ['ioredis 6 with a keyPrefix', () => new Redis(server.port, { keyPrefix: 'app:' })],
  ['ioredis 5', () => new Redis5(server.port)],
])('reads a hot session without a round trip, on %s', async (_, connect) => {
  const cache = caching(connect());
  const id = await heated(cache);
  const first = await cache.store.load(id);
  expect(first).toMatchObject({ userId: 'alice', fields: new Map([['a', '1']]) });
  // What is handed out is the caller's own.
  first?.fields.set('a', 'changed');
  expect((await cache.store.load(id))?.fields.get('a')).toBe('1');
  expect(await isHot(cache, id)).toBe(true);

  const cold = newId();
  await cache.store.create(cold, record({ a: '1' }));
  (await cache.store.load(cold))?.fields.set('a', 'changed'); // the first read, which came from the server
  expect((await cache.store.load(cold))?.fields.get('a')).toBe('1');
});

it('does not hand out a session that another process has logged out', async () => {
  const cache = caching();
  const id = await heated(cache);
  expect(await another().destroy(id)).toBe(true);
  await seen(async () => (await cache.store.load(id)) === undefined);
  expect(await cache.store.commit(id, delta({ b: '2' }))).toBe('gone');
  expect(await cache.store.load(id)).toBeUndefined();
});

it.each<[string, (id: string) => Promise<unknown>, string | undefined]>([
  ['a commit', (id) => another().commit(id, delta({ a: '2' })), '2'],
  ['a rotation', (id) => another().rotate(id, newId(), delta()), undefined],
  ['DEL', (id) => server.admin.del(`session:${id}`), undefined],
  ['expiry', (id) => server.admin.pexpire(`session:${id}`, 1), undefined],
  ['FLUSHALL', () => server.admin.flushall(), undefined],
])('is told of %s by others', async (_, change, expected) => {
  const cache = caching();
  const id = await heated(cache);
  await change(id);
  await seen(async () => (await cache.store.load(id))?.fields.get('a') === expected);
  expect((await cache.store.load(id))?.fields.get('a')).toBe(expected);
});

it('reads its own writes', async () => {
  const cache = caching();
  const { store } = cache;
  const id = await heated(cache);
  for (let count = 2; count < 50; count++) {
    expect(await store.commit(id, delta({ a: `${count}` }))).toBe('saved');
    expect((await store.load(id))?.fields.get('a')).toBe(`${count}`);
    expect((await store.load(id))?.fields.get('a')).toBe(`${count}`);
  }
  const next = newId();
  expect(await store.rotate(id, next, delta())).toBe('saved');
  expect([await store.load(id), (await store.load(next))?.fields.get('a')]).toEqual([undefined, '49']);
  await hot(cache, next);
  expect(await store.destroy(next)).toBe(true);
  expect(await store.load(next)).toBeUndefined();
});

it('does not keep what was read while it changed', async () => {
  const cache = caching();
  const warm = await heated(cache);
  const id = newId();
  const other = another();
  await other.create(id, record());
  // The answer to the read arrives after the news of the logout has.
  const { call } = cache.client;
  cache.client.call = async (...args) => {
    const answer = await call(...args);
    if (args[0] === 'role') return answer;
    cache.client.call = call;
    await other.destroy(id);
    await other.commit(warm, delta({ a: 'news' }));
    await seen(async () => !(await isHot(cache, warm)));
    return answer;
  };
  expect(await cache.store.load(id)).toBeDefined(); // it was there when it was asked for
  expect(await cache.store.load(id)).toBeUndefined();
});

it('forgets everything when the channel breaks, and keeps again afterwards', async () => {
  const { client, channel } = withChannel();
  const cache = caching(client);
  const id = await heated(cache);
  const closed = once(channel(), 'close');
  await server.admin.call('client', ['kill', 'type', 'pubsub']);
  await closed;
  expect(await isHot(cache, id)).toBe(false);
  await another().destroy(id);
  expect(await cache.store.load(id)).toBeUndefined();
  await heated(cache);
});

it('asks the server when the channel has fallen silent', async () => {
  const proxy = await Proxy.start(server.port);
  ended.push(() => proxy.stop());
  // Only what the store opens for itself takes the network that falls silent.
  const { client, channel } = withChannel({ port: proxy.port });
  const cache = caching(client);
  const id = await heated(cache);
  proxy.silent = true;
  await another().destroy(id);
  await seen(async () => (await cache.store.load(id)) === undefined);
  expect(channel().status).toBe('ready'); // nobody has noticed yet
  expect(await isHot(cache, id)).toBe(false);
  await new Promise((resolve) => channel().once('close', resolve)); // once() would reject with what ioredis says of it
  proxy.silent = false;
  await heated(cache); // over another connection
}, 30_000);

describe('when what an address leads to changes', () => {
  /** A cache whose client and channel come to the servers by ways of their own, and two servers with one session. */
  async function split() {
    const next = await RedisServer.start();
    ended.push(() => next.stop());
    const [clientWay, channelWay] = [await Proxy.start(server.port), await Proxy.start(server.port)];
    ended.push(
      () => clientWay.stop(),
      () => channelWay.stop(),
    );
    const { client, channel } = withChannel({ port: channelWay.port }, { port: clientWay.port });
    const cache = caching(client);
    const id = await heated(cache);
    const stores = [server, next].map(({ port }) => {
      const other = new Redis(port);
      ended.push(() => other.disconnect());
      return new RedisStore({ client: other });
    });
    await stores[1].create(id, record({ a: '1' }, 'alice'));
    const ready = (of: Redis): Promise<void> => new Promise((resolve) => of.once('ready', () => resolve()));
    return { next, clientWay, channelWay, client, channel: channel(), cache, id, ready, stores };
  }

  it('the client is on the new master, the channel on the old one, which answers: nothing is kept', async () => {
    const { next, clientWay, channelWay, client, channel, cache, id, ready, stores } = await split();
    const [moved, renewed] = [ready(client), ready(channel)];
    clientWay.target = next.port;
    clientWay.cut();
    await moved;
    expect(await isHot(cache, id)).toBe(false);
    // The channel has got another connection, to the old master again, and is given up for that.
    await renewed;
    await ready(channel);
    expect(await isHot(cache, id)).toBe(false);
    expect(await isHot(cache, id)).toBe(false);
    await stores[1].destroy(id);
    expect(await cache.store.load(id)).toBeUndefined();

    channelWay.target = next.port;
    const other = await heated(cache);
    await stores[1].destroy(other);
    await seen(async () => (await cache.store.load(other)) === undefined);
  });

  it('the channel is on another server, the client where it was: nothing is kept', async () => {
    const { next, channelWay, channel, cache, id, ready, stores } = await split();
    const moved = ready(channel);
    channelWay.target = next.port;
    channelWay.cut();
    await moved;
    await ready(channel); // given up, and made anew
    expect(await isHot(cache, id)).toBe(false);
    expect(await isHot(cache, id)).toBe(false);
    await stores[0].destroy(id);
    expect(await cache.store.load(id)).toBeUndefined();

    channelWay.target = server.port;
    await heated(cache);
  });

  it('both come to the new master: what the old one had is forgotten', async () => {
    const { next, clientWay, channelWay, client, cache, id, ready, stores } = await split();
    const moved = ready(client);
    for (const way of [clientWay, channelWay]) way.target = next.port;
    clientWay.cut(); // and the channel's connection to the old master stays whole
    await stores[1].commit(id, delta({ a: 'new' }));
    await moved;
    expect((await cache.store.load(id))?.fields.get('a')).toBe('new');
    await hot(cache, id);
    await stores[1].destroy(id);
    await seen(async () => (await cache.store.load(id)) === undefined);
  });

  it('the server is no master any more: nothing is kept until it is one', async () => {
    const cache = caching();
    const id = await heated(cache);
    await server.admin.call('replicaof', ['127.0.0.1', '1']);
    await seen(async () => !(await isHot(cache, id)));
    expect(await cache.store.load(id)).toBeDefined();
    await server.admin.call('replicaof', ['no', 'one']);
    await hot(cache, id);
  });

  it('the client had a connection, lost it and has another to the same server: everything is forgotten', async () => {
    const { clientWay, client, cache, id, ready } = await split();
    const again = ready(client);
    clientWay.cut();
    await again;
    expect(await isHot(cache, id)).toBe(false);
    await hot(cache, id);
  });
});

it('holds no more than it may, and nothing that has expired', async () => {
  const cache = caching(undefined, 2);
  const ids = [await heated(cache), await heated(cache), await heated(cache)];
  const hotOnes = [];
  for (const id of ids.toReversed()) hotOnes.push(await isHot(cache, id));
  expect(hotOnes).toEqual([true, true, false]);
  cache.clock.now += 7_200_000;
  expect(await cache.store.load(ids[2])).toBeUndefined();
});

it('lists the sessions of a user as they are', async () => {
  const cache = caching();
  const id = await heated(cache);
  const { client } = cache;
  const { sent } = client;
  expect([...(await cache.store.listByUser('alice')).keys()]).toEqual([id]);
  expect(client.sent - sent).toBe(2); // the index, and the session itself
});

it.each(['-client|tracking', '-role', '-info'])(
  'does without where the server refuses (%s), and says so',
  async (refused) => {
    await server.admin.call('acl', ['setuser', 'default', refused]);
    const emit = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const cache = caching();
    await seen(async () => emit.mock.calls.length > 0);
    expect(emit.mock.calls[0][0]).toMatch(
      /RedisStore keeps no cache: .*CLIENT TRACKING, INFO or ROLE.*NOPERM/s,
    );
    emit.mockRestore();
    const id = newId();
    await cache.store.create(id, record());
    expect(await isHot(cache, id)).toBe(false);
    expect(await cache.store.load(id)).toBeDefined();
  },
);

it('leaves no connection and no listener when it is closed', async () => {
  const client = new Redis(server.port);
  const listeners = (): number[] => ['ready', 'close'].map((event) => client.listenerCount(event));
  const before = listeners();
  const cache = caching(client);
  await heated(cache);
  await cache.store.close();
  expect(listeners()).toEqual(before);
  await seen(async () => !String(await server.admin.client('LIST')).includes('cmd=subscribe'));
  expect(await cache.client.call('ping', [])).toBe('PONG');
});

describe('options', () => {
  it.each<[unknown, RegExp]>([
    [true, /RedisStore cache: .*an object/s],
    [{}, /RedisStore cache\.maxSessions: .*whole number/s],
    [{ maxSessions: 0 }, /RedisStore cache\.maxSessions: .*whole number/s],
    [{ maxSessions: 10, ttl: 1 }, /RedisStore cache\.ttl: .*no such option/s],
  ])('%p stops the boot', (cache, message) => {
    const client = new Redis(server.port, { lazyConnect: true });
    const make = (): RedisStore => new RedisStore({ client, cache: cache as { maxSessions: number } });
    expect(make).toThrow(SessionConfigurationError);
    expect(make).toThrow(message);
  });

  it('a cluster stops the boot', () => {
    const client = new Cluster([{ host: '127.0.0.1', port: server.port }], { lazyConnect: true });
    expect(() => new RedisStore({ client, cache: { maxSessions: 1 } })).toThrow(
      /RedisStore cache: .*cluster/s,
    );
  });
});
