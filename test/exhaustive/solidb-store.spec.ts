import { Logger } from '@nestjs/common';
import type { SessionStore } from 'nest-session';
import { describeSessionStore, type StorePower } from 'nest-session/testing';
import { SolidbStore, type SolidbStoreOptions } from 'nest-session/solidb';
import { distinctOrders, runAll, triples } from '../support/interleavings.js';
import { type ProfileName, SolidbServer } from '../support/solidb-server.mjs';
import { answersAsTheModel } from '../support/store-property.js';

const POWERS: readonly StorePower[] = ['listByUser', 'count', 'clear', 'sweep', 'close', 'ping'];

/** Everything that every store is held to. One store serves all tests, emptied before each, by the test's clock. */
function describeEverything(options: () => SolidbStoreOptions): void {
  let store: SolidbStore | undefined;
  let now: () => number;

  const emptied = async (clock: () => number): Promise<SessionStore> => {
    store ??= new SolidbStore({ ...options(), clock: () => now() });
    now = clock;
    await store.clear();
    return store;
  };

  describeSessionStore('SolidbStore', (clock) => emptied(clock), POWERS);

  describe('SolidbStore, whatever is done to it,', () => {
    it('answers as the model does, step by step', async () => {
      await expect(answersAsTheModel(emptied, 30)).resolves.toBeUndefined();
    }, 120_000);

    it.each(triples)(
      'and in whatever order: %j',
      async (names, check) => {
        const orders = distinctOrders(names);
        expect(await runAll(() => emptied(Date.now), names, check, orders)).toBeGreaterThan(10);
      },
      120_000,
    );
  });
}

// What it says of an old server is tested where that is the subject.
beforeAll(() => Logger.overrideLogger(false));

describe.each<[ProfileName]>([['v0.10'], ['v1.2'], ['v2.1']])('on SoliDB %s', (profile) => {
  let server: SolidbServer;
  beforeAll(async () => {
    server = await new SolidbServer(profile, { apiKeys: ['sk_test'], requestsPerMinute: 0 }).start();
  });
  afterAll(() => server.stop());

  describeEverything(() => ({ url: server.url, database: 'app', apiKey: 'sk_test' }));
});

const { SOLIDB_URL: url = '', SOLIDB_DATABASE: database = 'nest_session_test', ...environment } = process.env;
if (url === '') {
  it.todo('on the real SoliDB server at SOLIDB_URL: skipped, since that is not set');
} else {
  describe(`on the SoliDB server at ${url}`, () => {
    describeEverything(() => ({
      url,
      database,
      // A collection of its own, which the tests empty.
      collection: 'nest_session_test',
      apiKey: environment.SOLIDB_API_KEY,
      username: environment.SOLIDB_USERNAME,
      password: environment.SOLIDB_PASSWORD,
      allowInsecure: true,
      timeout: 10,
    }));
  });
}
