import { Redis } from 'ioredis';
import { RedisStore } from 'nest-session/redis';
import { Proxy } from './support/proxy.js';
import { delta, newId, outcome, record } from './support/records.js';
import { RedisServer } from './support/redis-server.js';
import { WITHOUT_SCRIPTS } from './support/without-scripts.js';

/** Milliseconds. What is said to be refused is refused by then, or the test waits until it fails. */
const TIMEOUT = 800;

let server: RedisServer;
let others: RedisServer[] = [];
let client: Redis;
let store: RedisStore;

/** Starts a server, and a store with a client of the usual kind. */
async function start(settings: string[] = []): Promise<void> {
  server = await RedisServer.start(...settings);
  connect(server.port);
}

function connect(port: number): void {
  // One that never gives up: what it has queued, it would send after an hour.
  client = new Redis(port, { protocol: 2, retryStrategy: () => 20, maxRetriesPerRequest: null });
  client.on('error', () => {});
  store = new RedisStore({ client, commandTimeout: `${TIMEOUT}ms` });
}

// A rejection that nobody handles fails the test; Jest sees to that.
afterEach(async () => {
  client.disconnect();
  await Promise.all([server, ...others].map((each) => each.stop()));
  others = [];
});

/** Everything a request may ask of a store, about a session that is there. */
const operations: Record<string, (id: string) => Promise<unknown>> = {
  create: () => store.create(newId(), record({ a: '1' }, 'alice')),
  load: (id) => store.load(id),
  touch: (id) => store.touch(id, Date.now() + 7_200_000),
  commit: (id) => store.commit(id, delta({ b: '2' }, ['a'])),
  rotate: (id) => store.rotate(id, newId(), delta({}, [], { userId: 'alice' })),
  listByUser: () => store.listByUser('alice'),
  destroy: (id) => store.destroy(id),
  ping: () => store.ping(),
  count: () => store.count(),
};

/** Those operations that were not refused. */
async function answered(id: string, names = Object.keys(operations)): Promise<string[]> {
  const outcomes = await Promise.all(names.map((name) => outcome(operations[name](id))));
  return names.filter((__, position) => outcomes[position] !== 'refused');
}

async function fieldsOf(id: string): Promise<Record<string, string> | undefined> {
  const found = await store.load(id);
  return found && Object.fromEntries(found.fields);
}

/** The answer, once there is no lock any more that what broke before has left. */
async function unlocked<T>(operation: () => Promise<T>): Promise<T | 'refused'> {
  let answer = await outcome(operation());
  while (answer === 'refused') answer = await outcome(operation());
  return answer;
}

/** What a session comes to once the server answers again. */
async function life(): Promise<unknown[]> {
  const id = newId();
  await client.ping();
  return [
    await store.create(id, record()),
    await store.commit(id, delta({ b: '2' })),
    await fieldsOf(id),
    await store.destroy(id),
  ];
}
const WELL = ['created', 'saved', { a: '1', b: '2' }, true];

describe.each([
  ['with scripts', []],
  ['without scripts', WITHOUT_SCRIPTS],
])('%s', (_, settings) => {
  it('a server that was killed between load and commit: refused, and saved again once it is back', async () => {
    await start([...settings, '--appendonly', 'yes', '--appendfsync', 'always']);
    const id = newId();
    await store.create(id, record({ a: '1' }, 'alice'));
    await store.load(id);
    await server.kill();
    expect(await answered(id)).toEqual([]);
    await server.restart();
    await client.ping();
    expect(await unlocked(() => store.commit(id, delta({ b: '2' })))).toBe('saved');
    expect(await fieldsOf(id)).toEqual({ a: '1', b: '2' });
    expect([...(await store.listByUser('alice')).keys()]).toEqual([id]);
    expect(await server.immortalKeys()).toEqual([]);
  });

  it('what was refused while there was no connection is not done later', async () => {
    await start(settings);
    const proxy = await Proxy.start(server.port);
    client.disconnect();
    connect(proxy.port);
    const id = newId();
    await store.create(id, record());
    await store.commit(id, delta({ b: '2' }));
    await proxy.stop();
    while (client.status === 'ready') await new Promise((resolve) => setImmediate(resolve));
    expect(await answered(id)).toEqual([]);
    const again = await Proxy.start(server.port, proxy.port);
    await client.ping();
    expect(await fieldsOf(id)).toEqual({ a: '1', b: '2' });
    expect(await store.count()).toBe(1);
    await again.stop();
  });

  it('a server killed under commits: what was acknowledged is there after the restart', async () => {
    await start([...settings, '--appendonly', 'yes', '--appendfsync', 'always']);
    const ids = Array.from({ length: 20 }, newId);
    for (const id of ids) await store.create(id, record());
    const saved: [string, string][] = [];
    const running = new AbortController();
    const writers = ids.map(async (id) => {
      for (let count = 0; !running.signal.aborted; count++) {
        const answer = await outcome(store.commit(id, delta({ [`f${count}`]: '1' }, [`f${count - 1}`])));
        if (answer === 'saved') saved.push([id, `f${count}`]);
      }
    });
    while (saved.length < 400) await client.ping();
    await server.kill();
    running.abort();
    await Promise.all(writers);
    await server.restart();
    await client.ping();
    const last = new Map(saved);
    for (const [id, field] of last) {
      const names = [...((await store.load(id))?.fields.keys() ?? [])];
      // The next one may have been saved too, without the answer having arrived.
      const next = `f${Number(field.slice(1)) + 1}`;
      const wholes = [
        ['a', field],
        ['a', next],
      ];
      // Without scripts, a commit that sets and deletes may be cut between the two.
      if (settings.length > 0) wholes.push(['a', field, next]);
      expect(wholes).toContainEqual(names.toSorted());
    }
    expect(await server.immortalKeys()).toEqual([]);
  });

  it('a server that is paused, or frozen: refused in time, and well afterwards', async () => {
    await start(settings);
    const id = newId();
    await store.create(id, record());
    await server.admin.call('client', 'pause', 3 * TIMEOUT, 'all');
    expect(await answered(id)).toEqual([]);
    expect(await life()).toEqual(WELL);
    const other = newId();
    await store.create(other, record());
    server.signal('SIGSTOP');
    expect(await answered(other)).toEqual([]);
    server.signal('SIGCONT');
    expect(await life()).toEqual(WELL);
    expect(await server.immortalKeys()).toEqual([]);
  });

  it('connections killed under commits: saved or refused, and what was saved is there', async () => {
    await start(settings);
    const id = newId();
    await store.create(id, record({}));
    const names = Array.from({ length: 200 }, (__, count) => `f${count}`);
    const commits = names.map(async (name) => outcome(store.commit(id, delta({ [name]: '1' }))));
    const kills = (async () => {
      for (let count = 0; count < 5; count++) await server.admin.call('client', 'kill', 'type', 'normal');
    })();
    const outcomes = await Promise.all(commits);
    await kills;
    expect(new Set([...outcomes, 'saved', 'refused'])).toEqual(new Set(['saved', 'refused']));
    await client.ping();
    const kept = (await store.load(id))?.fields;
    const saved = names.filter((__, position) => outcomes[position] === 'saved');
    expect(saved.filter((name) => !kept?.has(name))).toEqual([]);
    expect(await server.immortalKeys()).toEqual([]);
  });

  it('a connection cut at any byte of a commit: all of it or nothing, and what was said holds', async () => {
    await start(settings);
    const proxy = await Proxy.start(server.port);
    client.disconnect();
    connect(proxy.port);
    const id = newId();
    await store.create(id, record());
    for (let bytes = 0; bytes < 600; bytes += 23) {
      await unlocked(() => store.commit(id, delta({ a: '1' }, ['b'])));
      proxy.cutAfter = bytes;
      const committed = await outcome(store.commit(id, delta({ a: '2', b: '2' })));
      proxy.cutAfter = Infinity;
      await client.ping();
      const wholes = [{ a: '2', b: '2' }, ...(committed === 'saved' ? [] : [{ a: '1' }])];
      expect(wholes).toContainEqual(await fieldsOf(id));
    }
    expect(await server.immortalKeys()).toEqual([]);
    await proxy.stop();
  });

  it('a connection cut at any byte of a rotation: one session, under the id that was said', async () => {
    await start(settings);
    const proxy = await Proxy.start(server.port);
    client.disconnect();
    connect(proxy.port);
    for (let bytes = 0; bytes < 900; bytes += 31) {
      const [id, next] = [newId(), newId()];
      await store.create(id, record());
      proxy.cutAfter = bytes;
      const rotated = await outcome(store.rotate(id, next, delta({ b: '2' }, [], { userId: 'alice' })));
      proxy.cutAfter = Infinity;
      await client.ping();
      const there = [await store.load(id), await store.load(next)].map((found) => found !== undefined);
      const allowed = [[false, true]];
      if (rotated !== 'saved') allowed.push([true, false]);
      // Without scripts a rotation is two steps, and between them nobody has the new id.
      if (rotated !== 'saved' && settings.length > 0) allowed.push([true, true]);
      expect(allowed).toContainEqual(there);
    }
    await proxy.stop();
  });

  it('a slow network: refused when it is too slow, well when it is not', async () => {
    await start(settings);
    const proxy = await Proxy.start(server.port);
    client.disconnect();
    connect(proxy.port);
    const id = newId();
    await store.create(id, record());
    proxy.delay = 10;
    expect(await store.commit(id, delta({ b: '2' }))).toBe('saved');
    proxy.delay = 10 * TIMEOUT;
    expect(await answered(id)).toEqual([]);
    await proxy.stop();
  });

  it('a server without memory refuses writes as a whole, and still lets users log out', async () => {
    await start(settings);
    const id = newId();
    await store.create(id, record({ a: '1', b: '2' }, 'alice'));
    await server.admin.config('SET', 'maxmemory', '1');
    expect(await answered(id, ['create', 'rotate'])).toEqual([]);
    expect(await fieldsOf(id)).toEqual({ a: '1', b: '2' });
    const committed = await outcome(store.commit(id, delta({ c: '3' }, ['a', 'b'])));
    expect(await fieldsOf(id)).toEqual(committed === 'saved' ? { c: '3' } : { a: '1', b: '2' });
    expect(await store.count()).toBe(1);
    expect(await outcome(store.destroy(id))).toBe(settings.length === 0 ? true : 'refused');
    await server.admin.config('SET', 'maxmemory', '0');
    expect(await life()).toEqual(WELL);
  });

  it('a server that evicts: a session is there as a whole, or gone', async () => {
    await start([...settings, '--maxmemory', '3mb', '--maxmemory-policy', 'allkeys-lru']);
    const ids = Array.from({ length: 600 }, newId);
    const text = 'x'.repeat(4000);
    for (const id of ids) {
      await store.create(id, record({ a: text }));
      await store.commit(id, delta({ b: text }));
    }
    let gone = 0;
    for (const id of ids) {
      const saved = (await store.commit(id, delta({ c: '3' }))) === 'saved';
      if (!saved) gone++;
      expect([undefined, saved && { a: text, b: text, c: '3' }]).toContainEqual(await fieldsOf(id));
    }
    expect(gone).toBeGreaterThan(0);
    expect(await server.immortalKeys()).toEqual([]);
  });

  it('a replica: reads are answered, writes refused', async () => {
    await start(settings);
    const id = newId();
    await store.create(id, record({ a: '1' }, 'alice'));
    const ended = newId();
    await store.create(ended, record());
    await store.touch(ended, Date.now() - 1);
    // A replica needs its master's permission, which the tests' own user has.
    const replica = await RedisServer.start(
      ...[
        ...settings,
        '--replicaof',
        '127.0.0.1',
        `${server.port}`,
        '--masteruser',
        'admin',
        '--masterauth',
        'any',
      ],
    );
    others.push(replica);
    await server.admin.wait(1, 0);
    client.disconnect();
    connect(replica.port);
    expect(await fieldsOf(id)).toEqual({ a: '1' });
    expect(await fieldsOf(ended)).toEqual(undefined);
    expect(await answered(id, ['create', 'touch', 'commit', 'rotate', 'destroy'])).toEqual([]);
  });

  it('a server that is still loading: refused until it is done, and then answered', async () => {
    await start([...settings, '--key-load-delay', '3000']);
    const id = newId();
    await store.create(id, record());
    for (let count = 0; count < 500; count++) await server.admin.set(`other:${count}`, 'x');
    await server.admin.save();
    await server.kill();
    await server.launch();
    expect(await answered(id)).toEqual([]);
    await client.ping();
    expect(await fieldsOf(id)).toEqual({ a: '1' });
    expect(await life()).toEqual(WELL);
  });

  it('no server at all: refused in time', async () => {
    await start(settings);
    await server.kill();
    client.disconnect();
    connect(server.port);
    expect(await answered(newId())).toEqual([]);
    // Many at once leave no trail of listeners.
    const many = Array.from({ length: 50 }, () => answered(newId(), ['load']));
    expect((await Promise.all(many)).flat()).toEqual([]);
    expect(client.listenerCount('ready')).toBeLessThan(3);
    await server.restart();
    expect(await life()).toEqual(WELL);
  });

  it('a client that was closed says so at once', async () => {
    await start(settings);
    client.disconnect();
    expect(await answered(newId())).toEqual([]);
  });
});

it.each([
  ['one server', []],
  ['a cluster behind one address', ['--cluster-enabled', 'yes']],
])(
  'an answer that gets lost with its connection, on %s: what was done is not done again, nor called gone',
  async (_, settings) => {
    await start(settings);
    if (settings.length > 0) {
      await server.admin.call('cluster', 'addslotsrange', 0, 16_383);
      while (!String(await server.admin.call('cluster', 'info')).includes('cluster_state:ok'));
    }
    const proxy = await Proxy.start(server.port);
    client.disconnect();
    connect(proxy.port);
    for (let answers = 0; answers < 8; answers++) {
      const [id, next] = [newId(), newId()];
      await store.create(id, record());
      proxy.loseAnswer = answers;
      expect(await store.commit(id, delta({ b: '2' }))).toBe('saved');
      expect(await store.touch(id, Date.now() + 7_200_000)).toBe('saved');
      expect(await store.rotate(id, next, delta({ c: '3' }))).toBe('saved');
      proxy.loseAnswer = Infinity;
      expect(await store.load(id)).toBeUndefined();
      expect(await fieldsOf(next)).toEqual({ a: '1', b: '2', c: '3' });
    }
    await proxy.stop();
  },
  30_000,
);

it('scripts that the server has forgotten are sent again, under load', async () => {
  await start();
  const id = newId();
  await store.create(id, record({}));
  const running = new AbortController();
  const flush = (async () => {
    while (!running.signal.aborted) await server.admin.script('FLUSH');
  })();
  const names = Array.from({ length: 500 }, (_, count) => `f${count}`);
  for (const name of names) expect(await store.commit(id, delta({ [name]: '1' }))).toBe('saved');
  running.abort();
  await flush;
  expect((await store.load(id))?.fields.size).toBe(500);
});

it('ten thousand sessions under load: every key has a time to live, and after the logout nothing is left', async () => {
  await start();
  const ids = Array.from({ length: 10_000 }, newId);
  const live = async (id: string, position: number): Promise<void> => {
    const user = `user-${position % 2000}`;
    const next = newId();
    await store.create(id, record({ cart: '[]' }));
    await store.commit(id, delta({ theme: '"dark"' }, ['cart']));
    await store.rotate(
      id,
      next,
      delta({ email: '"secret"' }, [], { userId: user, lastAccessedAt: Date.now() }),
    );
    await store.touch(next, Date.now() + 7_200_000);
    ids[position] = next;
  };
  for (let first = 0; first < ids.length; first += 500) {
    await Promise.all(ids.slice(first, first + 500).map((id, offset) => live(id, first + offset)));
  }
  expect(await store.count()).toBe(10_000);
  expect(await server.immortalKeys()).toEqual([]);
  for (let first = 0; first < ids.length; first += 500) {
    const destroyed = await Promise.all(ids.slice(first, first + 500).map((id) => store.destroy(id)));
    expect(destroyed).not.toContain(false);
  }
  expect(await server.admin.keys('*')).toEqual([]);
});
