import { RedisServer } from './redis-server.js';

/** A master, two replicas and three sentinels that watch over them. */
export class Sentinels {
  private constructor(
    readonly servers: RedisServer[],
    readonly sentinels: RedisServer[],
  ) {}

  static async start(...settings: string[]): Promise<Sentinels> {
    const master = await RedisServer.start(...settings);
    const servers = [master];
    for (let count = 0; count < 2; count++) {
      servers.push(await RedisServer.start(...settings, '--replicaof', '127.0.0.1', `${master.port}`));
    }
    await master.admin.wait(2, 0);
    const sentinels: RedisServer[] = [];
    for (let count = 0; count < 3; count++) {
      sentinels.push(
        await RedisServer.startSentinel(
          [
            `sentinel monitor main 127.0.0.1 ${master.port} 2`,
            'sentinel down-after-milliseconds main 700',
            'sentinel failover-timeout main 5000',
            'sentinel parallel-syncs main 2',
          ].join('\n'),
        ),
      );
    }
    const setup = new Sentinels(servers, sentinels);
    await setup.#acquainted();
    return setup;
  }

  /** What a client of ioredis takes. */
  get addresses(): { host: string; port: number }[] {
    return this.sentinels.map(({ port }) => ({ host: '127.0.0.1', port }));
  }

  /** The master that the sentinels name. */
  async master(): Promise<RedisServer> {
    const [, port] = (await this.sentinels[0].admin.call(
      'sentinel',
      'get-master-addr-by-name',
      'main',
    )) as string[];
    return this.servers.find((server) => server.port === Number(port)) as RedisServer;
  }

  /** Settles when the sentinels name another master, and it is one. */
  async failedOver(from: RedisServer): Promise<RedisServer> {
    for (;;) {
      const master = await this.master();
      if (master !== from && String(await master.admin.call('role')).startsWith('master')) return master;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.sentinels, ...this.servers].map((server) => server.stop()));
  }

  /** Settles when every sentinel knows the others and both replicas. */
  async #acquainted(): Promise<void> {
    for (const { admin } of this.sentinels) {
      for (;;) {
        const pairs = (await admin.call('sentinel', 'master', 'main')) as string[];
        const value = (name: string): string => pairs[pairs.indexOf(name) + 1];
        if (value('num-slaves') === '2' && value('num-other-sentinels') === '2') break;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }
}
