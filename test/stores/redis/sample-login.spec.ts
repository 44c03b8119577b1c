import { Browser } from '../../support/app.js';
import { alice, Sample, submitted } from '../../support/sample.js';
import { RedisServer } from './support/redis-server.js';

const SECRET = 'thirty-two bytes for these tests';

describe('two processes of the login sample on one Redis', () => {
  let redis: RedisServer;
  const samples: Sample[] = [];
  const start = async (flags: string[]): Promise<string> => {
    const sample = Sample.start(0, flags, {
      SESSION_SECRET: SECRET,
      SESSION_DRIVER: 'redis',
      SESSION_REDIS_URL: `redis://127.0.0.1:${redis.port}`,
      SESSION_REDIS_PREFIX: 'sample:',
    });
    samples.push(sample);
    return sample.address();
  };
  beforeAll(async () => (redis = await RedisServer.start()), 30_000);
  afterAll(async () => {
    await Promise.all(samples.map((sample) => sample.stop()));
    await redis.stop();
  });

  /** The same browser, at the other process. */
  const at = (url: string, browser: Browser): Browser => {
    const twin = new Browser(url);
    for (const [name, value] of browser.cookies) twin.cookies.set(name, value);
    return twin;
  };
  const userOf = async (browser: Browser): Promise<unknown> => (await browser.get('/api/me')).body.userId;

  it('log in through one, use the other, log out everywhere', async () => {
    const [one, two] = [await start([]), await start(['--fastify'])];
    const laptop = new Browser(one);
    await submitted(laptop, '/login', alice);
    const phone = new Browser(two);
    await submitted(phone, '/login', alice);
    for (const browser of [laptop, at(two, laptop), phone, at(one, phone)])
      expect(await userOf(browser)).toBe('alice');

    await submitted(at(two, laptop), '/devices/revoke-others');
    for (const browser of [phone, at(one, phone)]) expect(await userOf(browser)).toBeUndefined();
    for (const browser of [laptop, at(two, laptop)]) expect(await userOf(browser)).toBe('alice');

    await submitted(at(two, laptop), '/logout');
    for (const browser of [laptop, at(two, laptop)]) expect(await userOf(browser)).toBeUndefined();

    // What is left are visitors with a message, and nothing of the user's.
    const keys = await redis.admin.keys('*');
    for (const key of keys) {
      expect(key).toMatch(/^sample:[0-9a-f]{64}$/);
      expect(await redis.admin.pttl(key)).toBeGreaterThan(0);
      expect(JSON.stringify(await redis.admin.hgetall(key))).not.toMatch(/alice/i);
    }
  });
});
