import { Logger } from '@nestjs/common';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import type { DeadRecord, SessionDelta, SessionRecord } from 'nest-session';
import { SolidbStore, type SolidbStoreOptions } from 'nest-session/solidb';
import { Deadline } from '../../../lib/stores/solidb/deadline.js';
import { reply } from '../../support/solidb-faults.mjs';
import { type Exchange, type ProfileName, SolidbServer } from '../../support/solidb-server.mjs';

const ID = '0123456789abcdef'.repeat(4);
const NEW = 'a'.repeat(64);
const NOTHING: SessionDelta = { set: new Map(), delete: [], header: {} };
const SET: SessionDelta = { ...NOTHING, set: new Map([['b', '2']]) };

let now: number;
const record = (more: Partial<SessionRecord> = {}): SessionRecord => ({
  createdAt: now,
  lastAccessedAt: now,
  expiresAt: now + 3_600_000,
  fields: new Map([['a', '1']]),
  ...more,
});

let server: SolidbServer;
let warnings: string[];
const stores: SolidbStore[] = [];

const newStore = (options: Partial<SolidbStoreOptions> = {}): SolidbStore => {
  const store = new SolidbStore({
    url: server.url,
    database: 'app',
    timeout: 60,
    clock: () => now,
    ...options,
  });
  stores.push(store);
  return store;
};

const started = async (...options: ConstructorParameters<typeof SolidbServer>): Promise<void> => {
  server = await new SolidbServer(options[0], { requestsPerMinute: 0, ...options[1] }).start();
};

/** `GET …/document/sessions/<id>` and the like, in short. */
const short = ({ method, path }: Exchange): string => {
  const [, , , ...rest] = path.split('/');
  return [method, ...rest]
    .join(' ')
    .replace(ID, 'id')
    .replace(NEW, 'new')
    .replace(/probe-.*/, 'probe');
};

beforeEach(() => {
  now = Date.UTC(2026, 0, 1);
  warnings = [];
  const note = (message: string): void => void warnings.push(message);
  Logger.overrideLogger({ log: () => {}, error: note, warn: note });
});
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
  await server.stop();
});

describe('the first use', () => {
  it('makes no connection until there is something to ask, and nothing for a read', async () => {
    await started();
    const store = newStore();
    expect(server.connections).toBe(0);
    expect(await store.load(ID)).toBeUndefined();
    expect([await store.count(), await store.sweep(), [...(await store.listByUser('alice'))]]).toEqual([
      0,
      0,
      [],
    ]);
    await store.clear();
    expect(
      server.requests.map(short).filter((request) => /^POST (collection|database)/.test(request)),
    ).toEqual([]);
  });

  it.each<[ProfileName, string[]]>([
    [
      'v2.1',
      // Newer servers make the collection as they go, but not the database.
      [
        'POST app document sessions',
        'POST app collection',
        'POST ',
        'POST app collection',
        'POST app index sessions',
        'POST app document sessions',
        'POST app document sessions',
        'PUT app document sessions probe',
        'DELETE app document sessions probe',
      ],
    ],
    [
      'v0.10',
      [
        'POST app document sessions',
        'POST app collection',
        'POST ',
        'POST app collection',
        'POST app index sessions',
        'POST app document sessions',
        'POST app document sessions',
        'PUT app document sessions probe',
        'DELETE app document sessions probe',
      ],
    ],
  ])('on %s makes what is missing, once for all who wait for it', async (profile, preparation) => {
    await started(profile);
    const store = newStore();
    const ids = Array.from({ length: 20 }, (_, index) => `${index}`.padStart(64, '0'));
    await Promise.all(ids.map((id) => store.create(id, record())));
    expect(
      server
        .drain()
        .map(short)
        .slice(0, preparation.length)
        .map((one) => one.trim()),
    ).toEqual(preparation.map((one) => one.trim()));
    expect(await store.count()).toBe(20);
    // And nothing of it stays.
    expect(server.storage.documents('app', 'sessions').size).toBe(20);
    expect(server.storage.collection('app', 'sessions').indexes.get('session_user')).toEqual(['user_id']);
    await store.create(ID, record());
    expect(server.requests.map(short).filter((request) => /probe|collection/.test(request))).toEqual([]);
  });

  it('is made up for when it failed', async () => {
    await started();
    const store = newStore();
    server.fail(reply(500, { 'content-type': 'application/json' }, '{}'), {
      times: 1,
      when: ({ path }) => path.endsWith('/collection'),
    });
    await expect(store.create(ID, record())).rejects.toThrow(/500/);
    expect(await store.create(ID, record())).toBe('created');
  });

  it('comes again when the collection has vanished', async () => {
    await started('v0.10');
    const store = newStore();
    await store.create(ID, record());
    server.storage.dropCollection('app', 'sessions');
    expect(await store.load(ID)).toBeUndefined();
    expect(await store.commit(ID, SET)).toBe('gone');
    expect(await store.rotate(ID, NEW, SET)).toBe('gone');
    expect(await store.destroy(ID)).toBe(false);
    expect(await store.create(ID, record())).toBe('created');
    expect(await store.load(ID)).toBeDefined();
  });

  it('says once what an old server cannot do, and nothing of a new one', async () => {
    await started('v0.10');
    const store = newStore();
    await Promise.all([store.create(ID, record()), store.create(NEW, record())]);
    await store.commit(ID, SET);
    expect(warnings).toEqual([expect.stringMatching(/older than 1\.2.*Between processes.*run one process/)]);
    await server.stop();
    await started('v1.2');
    await newStore().create(ID, record());
    expect(warnings).toHaveLength(1);
  });
});

describe('what an operation costs', () => {
  const costs: Record<
    string,
    [prepare: (store: SolidbStore) => unknown, run: (store: SolidbStore) => unknown]
  > = {
    'a load': [() => {}, (store) => store.load(ID)],
    'a load of nothing': [() => {}, (store) => store.load(NEW)],
    'a creation': [() => {}, (store) => store.create(NEW, record())],
    'a commit to what has been loaded': [(store) => store.load(ID), (store) => store.commit(ID, SET)],
    'a touch of what has been loaded': [
      (store) => store.load(ID),
      (store) => store.touch(ID, now + 7_200_000),
    ],
    'a commit to what has not': [() => {}, (store) => store.commit(ID, SET)],
    'a rotation': [(store) => store.load(ID), (store) => store.rotate(ID, NEW, SET)],
    'a destruction': [(store) => store.load(ID), (store) => store.destroy(ID)],
    'the load of a session that is over': [() => (now += 4_000_000), (store) => store.load(ID)],
    'a listing of two': [
      (store) => store.create(NEW, record({ userId: 'alice' })),
      (store) => store.listByUser('alice'),
    ],
    'a count': [() => {}, (store) => store.count()],
    'a sweep': [() => {}, (store) => store.sweep()],
  };

  it.each<[ProfileName, Record<string, string>]>([
    [
      'v2.1',
      {
        'a load': 'GET',
        'a load of nothing': 'GET',
        'a creation': 'POST',
        'a commit to what has been loaded': 'PUT',
        'a touch of what has been loaded': 'PUT',
        'a commit to what has not': 'GET PUT',
        'a rotation': 'POST PUT DELETE',
        'a destruction': 'PUT DELETE',
        'the load of a session that is over': 'GET GET PUT DELETE',
        'a listing of two': 'POST GET GET',
        'a count': 'POST',
        'a sweep': 'POST',
      },
    ],
    [
      'v0.10',
      {
        'a load': 'GET',
        'a load of nothing': 'GET',
        'a creation': 'GET POST',
        'a commit to what has been loaded': 'GET PUT',
        'a touch of what has been loaded': 'GET PUT',
        'a commit to what has not': 'GET PUT',
        'a rotation': 'GET POST PUT DELETE',
        'a destruction': 'GET PUT DELETE',
        'the load of a session that is over': 'GET GET PUT DELETE',
        'a listing of two': 'POST GET GET',
        'a count': 'POST',
        'a sweep': 'POST',
      },
    ],
  ])('in requests, on %s', async (profile, expected) => {
    await started(profile);
    const other = newStore();
    await other.create(ID, record());
    const spent: Record<string, string> = {};
    for (const [name, [prepare, run]] of Object.entries(costs)) {
      await other.clear();
      await other.create(ID, record({ userId: 'alice' }));
      const store = newStore();
      await store.commit('f'.repeat(64), NOTHING);
      await prepare(store);
      server.drain();
      await run(store);
      spent[name] = server
        .drain()
        .map(({ method }) => method)
        .join(' ');
    }
    expect(spent).toEqual(expected);
    // One connection served each store.
    expect(server.connections).toBeLessThanOrEqual(2 * stores.length);
  });
});

describe('a document', () => {
  beforeEach(() => started());

  it('is what the reference says, with the user’s data under one key', async () => {
    const store = newStore();
    await store.create(
      ID,
      record({ userId: 'alice', expiresAt: now + 1500, fields: new Map([['__proto__', '"1"']]) }),
    );
    expect(server.storage.documents('app', 'sessions').get(ID)).toEqual({
      _key: ID,
      _id: `sessions/${ID}`,
      _rev: expect.any(String),
      _created_at: expect.any(String),
      _updated_at: expect.any(String),
      created_at: now,
      last_accessed: now,
      expires_at: now + 1500,
      purge_at: Math.ceil((now + 1500) / 1000),
      user_id: 'alice',
      data: '[["__proto__","\\"1\\""]]',
    });
  });

  const garbage: Record<string, Record<string, unknown>> = {
    'no data': { data: undefined },
    'data that is no text': { data: { a: '1' } },
    'data that is no JSON': { data: '[["a","1"]' },
    'data that is no list': { data: '{}' },
    'data of something else than pairs': { data: '[["a"]]' },
    'a value that is no text': { data: '[["a",1]]' },
    'no instants': { expires_at: null },
    'instants that are text': { expires_at: '2099-01-01T00:00:00Z' },
    'a user that is no text': { user_id: 7 },
  };
  it.each(Object.entries(garbage))('with %s is reported, once, and removed', async (_, wrong) => {
    const store = newStore();
    await store.create(ID, record());
    const documents = server.storage.documents('app', 'sessions');
    documents.set(ID, { ...documents.get(ID), ...wrong });
    const reports: DeadRecord[] = [];
    const loads = Array.from({ length: 3 }, () => newStore().load(ID, (why) => reports.push(why)));
    expect(await Promise.all(loads)).toEqual([undefined, undefined, undefined]);
    expect(reports).toEqual(['undecodable']);
    expect(documents.size).toBe(0);
  });

  it('of 10 MiB and above is refused by name, and what was there stays', async () => {
    const store = newStore();
    const large = (length: number): SessionDelta => ({
      ...SET,
      set: new Map([['data:cart', '"'.padEnd(length, 'é')]]),
    });
    await store.create(ID, record());
    await expect(store.commit(ID, large(6 * 1024 * 1024))).rejects.toThrow(/Its largest key is cart/);
    expect([...((await store.load(ID))?.fields.keys() ?? [])]).toEqual(['a']);
    expect(await store.commit(ID, large(5_200_000))).toBe('saved');
    expect((await store.load(ID))?.fields.get('data:cart')).toHaveLength(5_200_000);
  });

  it('in bytes that are no UTF-8 is no session', async () => {
    const store = newStore();
    await store.create(ID, record());
    const bytes = Buffer.from(JSON.stringify(server.storage.documents('app', 'sessions').get(ID)));
    bytes[bytes.indexOf('a', bytes.indexOf('"data"') + 6)] = 0xff;
    server.fail(
      ({ response }) => response.writeHead(200, { 'content-type': 'application/json' }).end(bytes),
      {
        times: 1,
      },
    );
    await expect(store.load(ID)).rejects.toThrow(/not whole JSON/);
    expect(await store.load(ID)).toBeDefined();
  });

  it('lies under an id that cannot lead elsewhere', async () => {
    for (const id of ['..', '.', '', 'a/b', 'a?b', '_batch', 'ключ']) {
      await expect(newStore().load(id)).rejects.toThrow(/is not a session id/);
    }
    expect(server.requests).toEqual([]);
  });
});

it('work that is shared and fails when nobody has time left for it is not a rejection that nobody hears', async () => {
  await started();
  const unheard: unknown[] = [];
  const note = (reason: unknown): void => void unheard.push(reason);
  process.on('unhandledRejection', note);
  const deadline = new Deadline(1);
  if (!deadline.signal.aborted) await once(deadline.signal, 'abort');
  await expect(deadline.wait(Promise.reject(new Error('failed')))).rejects.toThrow('no answer within 1 ms');
  await new Promise((resolve) => setImmediate(resolve));
  process.off('unhandledRejection', note);
  expect(unheard).toEqual([]);
});

it('what a caller does to a record it was given does not reach the next commit', async () => {
  await started();
  const store = newStore();
  await store.create(ID, record());
  (await store.load(ID))?.fields.set('a', 'changed outside');
  await store.commit(ID, SET);
  expect((await store.load(ID))?.fields).toEqual(
    new Map([
      ['a', '1'],
      ['b', '2'],
    ]),
  );
});

describe('collecting garbage', () => {
  const foreign = {
    soli: { _key: 'soli', data: {}, created_at: 1, last_accessed: 1 },
    text: { _key: 'text', expires_at: '1999-01-01T00:00:00Z' },
    null: { _key: 'null', expires_at: null },
  };

  it.each<[ProfileName]>([['v0.10'], ['v1.2'], ['v2.1']])(
    'on %s spares what is not a session',
    async (profile) => {
      await started(profile);
      const store = newStore();
      await store.create(ID, record());
      await store.create(NEW, record({ expiresAt: now + 1 }));
      const documents = server.storage.documents('app', 'sessions');
      for (const [key, document] of Object.entries(foreign)) documents.set(key, document);
      now += 1;
      expect(await store.count()).toBe(1);
      expect(await store.sweep()).toBe(1);
      expect([...documents.keys()].toSorted()).toEqual([ID, ...Object.keys(foreign)].toSorted());
    },
  );

  it.each([
    ['stopped half-way', 404, { error: ID, code: 404, type: 'DocumentNotFound' }, 1],
    ['saw no more than a thousand', 200, { result: [], count: 0, has_more: false, deleted: 1000 }, 1001],
  ])('goes on where an old server %s', async (_, status, body, removed) => {
    await started('v0.10');
    const store = newStore();
    await store.create(ID, record({ expiresAt: now - 1 }));
    server.fail(reply(status, { 'content-type': 'application/json' }, JSON.stringify(body)), {
      times: 1,
      when: ({ path }) => path.endsWith('/cursor'),
    });
    expect(await store.sweep()).toBe(removed);
  });

  it('happens in the background, a minute late, and tries again after a failure', async () => {
    await started();
    const store = newStore({ sweepInterval: '1ms' });
    const documents = (): Map<string, unknown> => server.storage.documents('app', 'sessions');
    const sweeps = async (count: number): Promise<void> => {
      for (let left = count; left > 0; left--) {
        await new Promise<void>((resolve) => {
          server.gate = ({ body }) => body.includes('REMOVE') && resolve();
        });
      }
      server.gate = undefined;
    };
    await store.create(ID, record({ expiresAt: now + 1000 }));
    await store.create(NEW, record());
    now += 60_999;
    await sweeps(2);
    expect(documents().size).toBe(2);
    server.fail(reply(500, { 'content-type': 'application/json' }, '{}'), { times: 1 });
    now += 1;
    await sweeps(3);
    expect([...documents().keys()]).toEqual([NEW]);
    expect(warnings).toEqual([expect.stringMatching(/not collected.*500/)]);
    await store.close();
    server.drain();
    await store.load(NEW);
    expect(server.requests.map(short)).toEqual(['GET app document sessions new']);
  });

  it('can be the server’s own business', async () => {
    await started('v1.2');
    const store = newStore({ ttlIndex: true, sweepInterval: '1ms' });
    await store.create(ID, record({ expiresAt: now + 1000 }));
    await store.create(NEW, record({ expiresAt: now + 1000 }));
    await store.touch(NEW, now + 9000);
    // There already, for the next process.
    await newStore({ ttlIndex: true }).create('b'.repeat(64), record());
    const documents = server.storage.documents('app', 'sessions');
    server.storage.expire('app', 'sessions', now + 60_999);
    expect(documents.size).toBe(3);
    server.storage.expire('app', 'sessions', now + 61_000);
    expect([...documents.keys()].toSorted()).toEqual([NEW, 'b'.repeat(64)].toSorted());
    expect(server.requests.filter(({ body }) => body.includes('REMOVE'))).toEqual([]);
    expect(warnings).toEqual([]);
  });

  it('is not left to a server that would delete the living', async () => {
    await started('v0.10');
    await newStore({ ttlIndex: true }).create(ID, record());
    expect(server.requests.filter(({ path }) => path.includes('/ttl/'))).toEqual([]);
    expect(warnings).toContainEqual(expect.stringMatching(/ttlIndex is ignored/));
  });
});

it('a user of more sessions than a batch holds is listed in full', async () => {
  await started();
  const store = newStore();
  await store.create(ID, record({ userId: 'alice' }));
  const documents = server.storage.documents('app', 'sessions');
  for (let index = 0; index < 1100; index++) {
    const key = `${index}`.padStart(64, 'e');
    documents.set(key, { ...documents.get(ID), _key: key });
  }
  expect((await store.listByUser('alice')).size).toBe(1101);
});

describe('logging in', () => {
  const user = { username: 'app', password: 'pa55word' };
  const logins = (): number => server.requests.filter(({ path }) => path === '/auth/login').length;

  it.each<[ProfileName]>([['v0.10'], ['v1.2'], ['v2.1']])(
    'on %s happens once for all, and again once',
    async (profile) => {
      await started(profile, { users: { app: 'pa55word' } });
      const store = newStore(user);
      await Promise.all(Array.from({ length: 30 }, () => store.load(ID)));
      expect(logins()).toBe(1);
      await store.create(ID, record());
      // A server without JWT_SECRET has been restarted.
      server.access.forgetTokens();
      const loaded = await Promise.all(Array.from({ length: 30 }, () => store.load(ID)));
      expect(loaded.every((one) => one?.fields.get('a') === '1')).toBe(true);
      expect(logins()).toBe(2);
    },
  );

  it('is not tried over and over while tokens are refused', async () => {
    await started('v2.1', { users: { app: 'pa55word' } });
    const store = newStore(user);
    await store.load(ID);
    server.fail(reply(401), { when: ({ path }) => path !== '/auth/login' });
    const outcomes = await Promise.allSettled(Array.from({ length: 30 }, () => store.load(ID)));
    expect(outcomes.every(({ status }) => status === 'rejected')).toBe(true);
    expect(logins()).toBe(2);
    server.recover();
    expect(await store.load(ID)).toBeUndefined();
    expect(logins()).toBe(3);
  });

  it.each<[ProfileName]>([['v0.10'], ['v2.1']])(
    'on %s with a wrong password is tried once',
    async (profile) => {
      await started(profile, { users: { app: 'another' } });
      const store = newStore(user);
      for (let attempt = 0; attempt < 30; attempt++) {
        const error: unknown = await store.load(ID).catch((reason: unknown) => reason);
        expect((error as Error).message).toMatch(/refused the login \(400\).*username and password/);
        expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(/pa55word/);
      }
      expect(logins()).toBe(1);
    },
  );

  it('leaves nothing of the credentials in the store to be printed', async () => {
    await started('v2.1', { users: { app: 'pa55word' }, apiKeys: ['sk_5ecret'] });
    for (const store of [newStore(user), newStore({ apiKey: 'sk_5ecret' })]) {
      await store.create(ID, record());
      expect(inspect(store, { depth: 20, showHidden: true }) + JSON.stringify(store)).not.toMatch(
        /pa55word|5ecret/,
      );
    }
  });

  it.each(['', 'two words', 7])('with a token such as %j is no login', async (token) => {
    await started();
    server.fail(reply(200, { 'content-type': 'application/json' }, JSON.stringify({ token })));
    await expect(newStore(user).load(ID)).rejects.toThrow(/without a token/);
  });
});

describe('too many requests', () => {
  it('are taken up again when the server says, if there is time', async () => {
    await started();
    server.fail(reply(429, { 'retry-after': '1' }, 'Too Many Requests'), { times: 1 });
    const store = newStore();
    expect(await Promise.all([store.load(ID), store.load(NEW)])).toEqual([undefined, undefined]);
  });

  it.each(['30', 'nonsense', '86400'])(
    'fail at once when it is too long (%s), and are not sent meanwhile',
    async (after) => {
      await started('v2.1');
      server.fail(reply(429, { 'retry-after': after }, 'Too Many Requests'), { times: 1 });
      const store = newStore({ timeout: '900ms' });
      await expect(store.load(ID)).rejects.toThrow(/429.*SOLIDB_API_RATE_LIMIT/);
      const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => store.load(ID)));
      expect(outcomes.every(({ status }) => status === 'rejected')).toBe(true);
      expect(server.requests).toHaveLength(1);
    },
  );

  it('of a server that counts them are as many as it takes', async () => {
    await started('v2.1', { requestsPerMinute: 20 });
    const store = newStore({ timeout: '900ms' });
    const outcomes = [];
    for (let index = 0; index < 40; index++) outcomes.push(await store.load(ID).catch(() => 'unavailable'));
    expect(outcomes.filter((outcome) => outcome === 'unavailable')).toHaveLength(20);
    expect(server.requests).toHaveLength(21);
  });
});

it('the test server runs beside a command, which finds it in its environment', async () => {
  await started();
  const script = fileURLToPath(new URL('../../support/with-solidb.mjs', import.meta.url));
  const look = `
    const { SESSION_DRIVER, SESSION_SOLIDB_URL, SESSION_SOLIDB_DATABASE, SESSION_SOLIDB_API_KEY } = process.env;
    const answer = await fetch(SESSION_SOLIDB_URL + '/_api/database', {
      method: 'POST',
      headers: { 'X-API-Key': SESSION_SOLIDB_API_KEY },
      body: JSON.stringify({ name: SESSION_SOLIDB_DATABASE }),
    });
    console.log(SESSION_DRIVER, answer.status);
    process.exit(3);
  `;
  const command = [script, '--profile', 'v1.2', process.execPath, '--input-type=module', '-e', look];
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  expect(await once(child, 'close')).toEqual([3, null]);
  expect(output).toMatch(/^SoliDB v1\.2 for tests at http:\S+\nsolidb 200\n$/);
});
