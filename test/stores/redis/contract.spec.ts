import { describeSessionStore } from 'nest-session/testing';
import { RedisStore } from 'nest-session/redis';
import { answersAsTheModel } from '../../support/store-property.js';
import { type Client, settings, startServers } from './support/settings.js';

startServers();

// The cache is for one server or Sentinel.
const caching = settings
  .filter(({ name }) => name.startsWith('one server'))
  .map((setting) => ({ ...setting, name: `${setting.name}, with a cache`, cache: { maxSessions: 100 } }));

describe.each([...settings.map((setting) => ({ ...setting, cache: undefined })), ...caching])(
  'on $name',
  (setting) => {
    const { name, connect, clear, cache } = setting;
    let client: Client;
    beforeAll(() => void (client = connect()));
    beforeEach(clear);
    afterAll(() => client.disconnect());

    describeSessionStore(`RedisStore on ${name}`, (clock) => new RedisStore({ client, clock, cache }), [
      'listByUser',
      'count',
      'clear',
      'sweep',
      'close',
      'ping',
    ]);

    it('answers as the model does, whatever is done to it', async () => {
      const emptyStore = async (clock: () => number): Promise<RedisStore> => {
        await clear();
        return new RedisStore({ client, clock, cache });
      };
      await expect(answersAsTheModel(emptyStore, 60)).resolves.toBeUndefined();
    }, 120_000);
  },
);
