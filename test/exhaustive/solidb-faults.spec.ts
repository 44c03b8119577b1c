import { Logger } from '@nestjs/common';
import { inspect } from 'node:util';
import type { SessionDelta, SessionRecord } from 'nest-session';
import { SolidbStore, type SolidbStoreOptions } from 'nest-session/solidb';
import * as faults from '../support/solidb-faults.mjs';
import { type Fault, type ProfileName, SolidbServer } from '../support/solidb-server.mjs';

const API_KEY = 'sk_5ecret';
const PASSWORD = 'pa55word';
const ID = '0123456789abcdef'.repeat(4);
const NEW = 'a'.repeat(64);

const delta = (set: Record<string, string> = {}): SessionDelta => ({
  set: new Map(Object.entries(set)),
  delete: [],
  header: {},
});

const record = (): SessionRecord => ({
  createdAt: Date.now(),
  lastAccessedAt: Date.now(),
  expiresAt: Date.now() + 3_600_000,
  userId: 'alice',
  fields: new Map([['a', '1']]),
});

const operations: Record<string, (store: SolidbStore) => Promise<unknown>> = {
  create: (store) => store.create(NEW, record()),
  load: (store) => store.load(ID),
  touch: (store) => store.touch(ID, Date.now() + 7_200_000),
  commit: (store) => store.commit(ID, delta({ b: '2' })),
  rotate: (store) => store.rotate(ID, NEW, delta({ b: '2' })),
  destroy: (store) => store.destroy(ID),
  listByUser: (store) => store.listByUser('alice'),
  count: (store) => store.count(),
  clear: (store) => store.clear(),
  sweep: (store) => store.sweep(),
  ping: (store) => store.ping(),
};

const json = (body: unknown, status = 200): Fault =>
  faults.reply(status, { 'content-type': 'application/json' }, JSON.stringify(body));

/** What can happen to a request, and what the error then says of it. */
const failures: Record<string, [fault: Fault, says: RegExp]> = {
  'the connection breaking': [faults.drop, /other side closed|ECONNRESET/],
  'the connection breaking after the deed': [faults.dropAnswer, /other side closed|ECONNRESET/],
  'a redirect': [faults.reply(307, { location: 'http://127.0.0.1:9/' }), /redirect \(307\).* url\./],
  'a proxy’s page': [faults.page(), /200 with text\/html instead of JSON/],
  'a proxy’s 404': [faults.page(404), /404 with text\/html/],
  'a proxy’s 502': [faults.page(502), /502 with text\/html/],
  'a 404 of unknown origin': [json({ message: 'no such route' }, 404), /404/],
  'a 409 of unknown origin': [json({ message: 'conflict' }, 409), /409/],
  'no content type': [faults.reply(200, {}, '{}'), /no content type/],
  'JSON of nothing': [json(null), /without an object/],
  'a body that is no JSON': [
    faults.reply(200, { 'content-type': 'application/json' }, '{"_key":'),
    /not whole JSON/,
  ],
  'JSON without an end': [faults.flood, /more than \d+ bytes/],
  'an error inside the server': [
    json({ error: 'disk', code: 500, type: 'InternalError' }, 500),
    /500 InternalError/,
  ],
  'refused credentials': [faults.reply(401), /refused the credentials \(401\).*apiKey/],
  'credentials without the right': [json({ error: '', code: 403, type: 'Forbidden' }, 403), /403.*role/],
};

/** What befalls an answer that has a body. */
const halfAnswers: Record<string, Fault> = {
  'the connection breaking in the middle of the answer': faults.resetHalfWay,
  'half an answer': faults.truncate,
};

const silences: Record<string, Fault> = {
  'no answer': faults.hang,
  'half an answer and silence': faults.stall,
};

/** Those that requests wait for. What walks all sessions is given the 30 s that the server gives a query. */
const bounded = Object.keys(operations).filter((name) => !/count|clear|sweep/.test(name));

beforeAll(() => Logger.overrideLogger(false));

describe.each<[ProfileName]>([['v0.10'], ['v1.2'], ['v2.1']])('on SoliDB %s', (profile) => {
  let server: SolidbServer;
  let store: SolidbStore;

  const newStore = (options: Partial<SolidbStoreOptions> = {}): SolidbStore =>
    // A minute, which no test waits for.
    new SolidbStore({ url: server.url, database: 'app', apiKey: API_KEY, timeout: 60, ...options });

  const fieldsOf = async (id: string): Promise<unknown> => {
    const loaded = await newStore().load(id);
    return loaded && Object.fromEntries(loaded.fields);
  };

  beforeEach(async () => {
    server = await new SolidbServer(profile, {
      apiKeys: [API_KEY],
      users: { app: PASSWORD },
      requestsPerMinute: 0,
    }).start();
    store = newStore();
    await store.create(ID, record());
  });
  afterEach(async () => {
    await store.close();
    await server.stop();
  });

  const rejection = async (attempt: Promise<unknown>): Promise<Error> => {
    const outcome: unknown = await attempt.then(
      (value) => new Error(`It answered ${inspect(value)}`),
      (error: unknown) => error,
    );
    expect(outcome).toBeInstanceOf(Error);
    expect((outcome as Error).message).toMatch(/^SoliDB/);
    expect(inspect(outcome, { depth: 10, showHidden: true })).not.toContain(API_KEY);
    return outcome as Error;
  };

  describe.each(Object.entries(operations))('%s', (_, run) => {
    it.each(Object.entries(failures))('rejects on %s', async (__, [fault, says]) => {
      // One that was there before, and one that begins with the fault.
      for (const attempted of [store, newStore()]) {
        server.fail(fault);
        expect((await rejection(run(attempted))).message).toMatch(says);
        server.recover();
        expect(await attempted.create('b'.repeat(64), record())).toMatch(/created|exists/);
      }
    });

    it('rejects where there is no server', async () => {
      await server.stop();
      expect((await rejection(run(store))).message).toMatch(/ECONNREFUSED|ECONNRESET|other side closed/);
      expect((await rejection(run(newStore()))).message).toMatch(/ECONNREFUSED/);
      await server.start();
      await expect(run(store)).resolves.not.toThrow();
    });
  });

  describe.each(Object.entries(silences))('on %s', (_, fault) => {
    it.each(bounded)('%s rejects in time', async (name) => {
      server.fail(fault, { when: ({ method }) => method !== 'DELETE' });
      for (const attempted of [newStore({ timeout: '50ms' }), newStore({ timeout: '50ms' })]) {
        expect((await rejection(operations[name](attempted))).message).toMatch(/no answer within 50 ms/);
      }
    });

    it('a hundred operations on one session do not wait for one another’s time to run out', async () => {
      server.fail(fault);
      const impatient = newStore({ timeout: '300ms' });
      const begun = performance.now();
      await Promise.all(
        Array.from({ length: 100 }, () => rejection(impatient.commit(ID, delta({ b: '2' })))),
      );
      // One after the other they would take half a minute.
      expect(performance.now() - begun).toBeLessThan(15_000);
    });
  });

  describe.each(Object.entries(halfAnswers))('%s', (_, fault) => {
    it.each([
      ['load', 'GET'],
      ['listByUser', 'POST'],
      ['count', 'POST'],
      ['commit', 'GET'],
      ['commit', 'PUT'],
      ['destroy', 'PUT'],
      ['rotate', 'POST'],
      ['rotate', 'PUT'],
    ])('is no session and no missing one to %s (%s)', async (name, method) => {
      await store.ping();
      const cold = newStore();
      await cold.commit(NEW, delta());
      server.fail(fault, { when: (request) => request.method === method });
      expect((await rejection(operations[name](cold))).message).toMatch(
        /not whole JSON|closed|ECONNRESET|terminated/,
      );
    });
  });

  it('another document than that asked for is no session, and is not removed', async () => {
    const body = { _key: NEW, _rev: '1', created_at: 1, last_accessed: 1, expires_at: 1, data: '[]' };
    for (const answer of [body, { ...body, _key: ID, _rev: undefined }, {}, []]) {
      server.fail(json(answer), { times: 1 });
      await rejection(store.load(ID));
    }
    expect(await fieldsOf(ID)).toEqual({ a: '1' });
  });

  it.each(['count', 'sweep', 'listByUser'])('an answer to something else is none to %s', async (name) => {
    for (const body of [{}, [], { result: 'all' }, { result: ['many'] }, { result: null, deleted: '1' }]) {
      server.fail(json(body));
      expect((await rejection(operations[name](store))).message).toMatch(/without a|something else/);
    }
  });

  it('nothing is sent to where a redirect leads', async () => {
    const elsewhere = await new SolidbServer().start();
    server.fail(
      faults.reply(307, { location: `${elsewhere.url}/_api/database/app/document/sessions/${ID}` }),
    );
    await rejection(store.load(ID));
    await rejection(store.commit(ID, delta({ b: '2' })));
    expect(elsewhere.requests).toEqual([]);
    await elsewhere.stop();
  });

  it('what is done to a session whose answer was lost can be done again', async () => {
    server.fail(faults.dropAnswer, { times: 1, when: ({ method }) => method === 'PUT' });
    await rejection(store.commit(ID, delta({ b: '2' })));
    expect(await fieldsOf(ID)).toEqual({ a: '1', b: '2' });
    expect(await store.commit(ID, delta({ c: '3' }))).toBe('saved');
    expect(await fieldsOf(ID)).toEqual({ a: '1', b: '2', c: '3' });
  });

  describe('a rotation that fails', () => {
    const on = (method: string) => ({
      times: 1,
      when: (request: { method: string }) => request.method === method,
    });

    it('before the new session is there leaves the old one', async () => {
      await store.load(ID);
      server.fail(faults.drop, on('POST'));
      await rejection(store.rotate(ID, NEW, delta({ b: '2' })));
      expect([await fieldsOf(ID), await fieldsOf(NEW)]).toEqual([{ a: '1' }, undefined]);
      expect(await store.rotate(ID, NEW, delta({ b: '2' }))).toBe('saved');
    });

    it('before the old one has ended leaves the old one alone', async () => {
      await store.load(ID);
      const deleted = new Promise<void>((resolve) => {
        server.gate = ({ method, path }) => method === 'DELETE' && path.endsWith(NEW) && resolve();
      });
      server.fail(faults.drop, on('PUT'));
      await rejection(store.rotate(ID, NEW, delta({ b: '2' })));
      await deleted;
      expect([await fieldsOf(ID), await fieldsOf(NEW)]).toEqual([{ a: '1' }, undefined]);
      expect(await newStore().count()).toBe(1);
    });

    it('when the old one has ended has not failed', async () => {
      server.fail(faults.drop, on('DELETE'));
      expect(await store.rotate(ID, NEW, delta({ b: '2' }))).toBe('saved');
      expect([await fieldsOf(ID), await fieldsOf(NEW)]).toEqual([undefined, { a: '1', b: '2' }]);
      // What is left of the old one holds nothing, counts for nothing, is not reported, and is swept.
      const documents = server.storage.documents('app', 'sessions');
      expect(documents.get(ID)).toMatchObject({ data: '[]', user_id: null, expires_at: 0 });
      expect(await store.count()).toBe(1);
      server.drain();
      expect(await newStore().load(ID, () => expect('a report').toBe('none'))).toBeUndefined();
      expect(server.requests).toHaveLength(1);
      expect(await store.sweep()).toBe(1);
      expect([...documents.keys()]).toEqual([NEW]);
    });
  });

  it('a destruction whose document cannot be deleted is one all the same', async () => {
    server.fail(faults.drop, { when: ({ method }) => method === 'DELETE' });
    expect(await store.destroy(ID)).toBe(true);
    expect(await store.destroy(ID)).toBe(false);
    expect(await store.commit(ID, delta({ b: '2' }))).toBe('gone');
    expect(await fieldsOf(ID)).toBeUndefined();
    expect(await store.create(ID, record())).toBe('created');
  });
});
