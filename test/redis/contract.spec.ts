import { describeSessionStore } from 'nest-session/testing';
import { RedisStore } from '../../lib/stores/redis/index.js';
import { answersAsTheModel } from '../support/store-property.js';
import { type Client, settings, startServers } from './support/settings.js';

startServers();

describe.each(settings)('on $name', ({ name, connect, clear }) => {
  let client: Client;
  beforeAll(() => void (client = connect()));
  beforeEach(clear);
  afterAll(() => client.disconnect());

  describeSessionStore(`RedisStore on ${name}`, (clock) => new RedisStore({ client, clock }), [
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
      return new RedisStore({ client, clock });
    };
    await expect(answersAsTheModel(emptyStore, 60)).resolves.toBeUndefined();
  }, 120_000);
});
