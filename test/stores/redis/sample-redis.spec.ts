import type { AppModule as Module } from '../../../sample/redis/app.module.js';
import { adapters, Browser, createApp } from '../../support/app.js';
import { RedisCluster } from './support/redis-cluster.js';
import { RedisServer } from './support/redis-server.js';
import { Sentinels } from './support/sentinels.js';

const NAMES = ['REDIS_URL', 'REDIS_SENTINELS', 'REDIS_MASTER', 'REDIS_CLUSTER'];
const { AppModule } = (await import('../../../sample/redis/app.module.js')) as { AppModule: typeof Module };

describe.each(adapters.map((adapter) => [adapter]))('the Redis sample on %s counts visits', (adapter) => {
  const visitsWith = async (variables: Record<string, string>): Promise<unknown[]> => {
    Object.assign(process.env, variables);
    const apps = [await createApp(adapter, AppModule), await createApp(adapter, AppModule)];
    try {
      const browsers = [];
      for (const app of apps) {
        await app.listen(0, '127.0.0.1');
        browsers.push(new Browser(await app.getUrl()));
      }
      const visits = [];
      for (let round = 0; round < 2; round++) {
        for (const [index, browser] of browsers.entries()) {
          visits.push((await browser.get('/')).body.visits);
          for (const [name, value] of browser.cookies) browsers[1 - index].cookies.set(name, value);
        }
      }
      return visits;
    } finally {
      await Promise.all(apps.map((app) => app.close()));
    }
  };
  afterEach(() => {
    for (const name of NAMES) delete process.env[name];
  });

  it('on one server', async () => {
    const server = await RedisServer.start();
    expect(await visitsWith({ REDIS_URL: `redis://127.0.0.1:${server.port}` })).toEqual([1, 2, 3, 4]);
    await server.stop();
  });

  it('with Sentinel', async () => {
    const setup = await Sentinels.start();
    const sentinels = setup.addresses.map(({ host, port }) => `${host}:${port}`).join();
    expect(await visitsWith({ REDIS_SENTINELS: sentinels, REDIS_MASTER: 'main' })).toEqual([1, 2, 3, 4]);
    await setup.stop();
  });

  it('on a cluster', async () => {
    const cluster = await RedisCluster.start();
    const nodes = cluster.addresses.map(({ host, port }) => `${host}:${port}`).join();
    expect(await visitsWith({ REDIS_CLUSTER: nodes })).toEqual([1, 2, 3, 4]);
    await cluster.stop();
  });
});
