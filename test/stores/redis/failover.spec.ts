import { Cluster, Redis } from 'ioredis';
import { RedisStore } from 'nest-session/redis';
import { Load, type Report } from './support/load.js';
import type { Client } from './support/settings.js';
import { RedisCluster } from './support/redis-cluster.js';
import type { RedisServer } from './support/redis-server.js';
import { Sentinels } from './support/sentinels.js';

const reports: [string, Report][] = [];
afterAll(() => {
  const lines = reports.map(([name, figures]) => `  ${name}: ${JSON.stringify(figures)}`);
  process.stdout.write(`\nWhat users met with:\n${lines.join('\n')}\n`);
});

/**
 * Has users at work before, while and after something happens. What Redis loses by itself, since a master does not
 * wait for its replicas, is counted; what it cannot be blamed for is asserted.
 */
async function survive(
  name: string,
  client: Client,
  happen: (load: Load) => Promise<unknown>,
  replicated?: () => Promise<unknown>,
): Promise<Report> {
  client.on('error', () => {});
  const store = new RedisStore({ client, commandTimeout: '500ms' });
  const load = new Load(store, replicated);
  await load.progress(2000);
  await happen(load);
  await load.progress(2000);
  await load.stop();
  const report = await load.report();
  reports.push([name, report]);
  client.disconnect();
  return report;
}

async function immortalKeys(servers: RedisServer[]): Promise<string[]> {
  return (await Promise.all(servers.map((server) => server.immortalKeys()))).flat();
}

describe('sentinels and three servers', () => {
  let setup: Sentinels;
  const connect = (options: object = {}): Client =>
    new Redis({
      ...options,
      sentinels: setup.addresses,
      name: 'main',
      retryStrategy: () => 50,
      sentinelRetryStrategy: () => 50,
    });
  afterEach(() => setup.stop());

  it('when the master is killed', async () => {
    setup = await Sentinels.start();
    await survive('Sentinel, master killed', connect(), async () => {
      const master = await setup.master();
      await master.kill();
      await setup.failedOver(master);
    });
    expect(await immortalKeys([await setup.master()])).toEqual([]);
  });

  it('when a failover is asked for', async () => {
    setup = await Sentinels.start();
    await survive('Sentinel, failover asked for', connect(), async () => {
      const master = await setup.master();
      await setup.sentinels[0].admin.call('sentinel', 'failover', 'main');
      await setup.failedOver(master);
    });
    expect(await immortalKeys([await setup.master()])).toEqual([]);
  });

  /** An answer counts when a replica has what was written: what an application would send after every write. */
  const waiting = (client: Client) => async (): Promise<void> => {
    if (Number(await client.call('wait', ['1', '500'])) < 1) throw new Error('No replica has it');
  };

  it.each<[string, string[], object, boolean]>([
    ['', [], {}, false],
    [', failoverDetector', [], { failoverDetector: true }, false],
    [', min-replicas-to-write 1', ['--min-replicas-to-write', '1', '--min-replicas-max-lag', '1'], {}, false],
    [', WAIT 1', [], {}, true],
    [', WAIT 1, failoverDetector', [], { failoverDetector: true }, true],
  ])('when the master freezes and comes back%s', async (how, settings, options, waits) => {
    setup = await Sentinels.start(...settings);
    const client = connect(options);
    await survive(
      `Sentinel, master frozen and back${how}`,
      client,
      async (load) => {
        const master = await setup.master();
        master.signal('SIGSTOP');
        await setup.failedOver(master);
        master.signal('SIGCONT');
        await load.progress(2000);
        while (!String(await master.admin.call('role')).startsWith('slave'));
      },
      waits ? waiting(client) : undefined,
    );
    expect(await immortalKeys([await setup.master()])).toEqual([]);
  });
});

describe('a cluster of six', () => {
  let cluster: RedisCluster;
  beforeEach(async () => {
    cluster = await RedisCluster.start();
  });
  afterEach(() => cluster.stop());

  it('while slots move', async () => {
    const report = await survive('Cluster, 2000 slots moved', new Cluster(cluster.addresses), async () => {
      const [from, to] = await cluster.masters();
      // prettier-ignore
      await cluster.cli('--cluster', 'reshard', `127.0.0.1:${from.port}`,
        '--cluster-from', String(await from.admin.call('cluster', 'myid')),
        '--cluster-to', String(await to.admin.call('cluster', 'myid')),
        '--cluster-slots', '2000', '--cluster-yes');
    });
    // Nothing is asynchronous about a slot that moves.
    expect(report).toMatchObject({ lostSessions: 0, lostWrites: 0, cameBack: 0 });
    expect(await immortalKeys(await cluster.masters())).toEqual([]);
  }, 120_000);

  it('when a master is killed', async () => {
    const report = await survive('Cluster, master killed', new Cluster(cluster.addresses), async () => {
      const [master] = await cluster.masters();
      await master.kill();
      const others = cluster.nodes.filter((node) => node !== master);
      for (const { admin } of others) {
        while (!String(await admin.call('cluster', 'info')).includes('cluster_state:fail')) {
          if (String(await admin.call('cluster', 'nodes')).includes('master,fail ')) break;
        }
        while (!String(await admin.call('cluster', 'info')).includes('cluster_state:ok'));
      }
    });
    expect(report.answered).toBeGreaterThan(4000);
  });
});
