import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { RedisServer } from './redis-server.js';

/** Three masters and three replicas, or fewer. */
export class RedisCluster {
  private constructor(readonly nodes: RedisServer[]) {}

  static async start({ masters = 3, replicas = 1 } = {}): Promise<RedisCluster> {
    const nodes: RedisServer[] = [];
    for (let count = masters * (1 + replicas); count > 0; count--) {
      // prettier-ignore
      nodes.push(await RedisServer.start('--cluster-enabled', 'yes', '--cluster-node-timeout', '1500',
        '--cluster-config-file', 'nodes.conf', '--appendonly', 'no'));
    }
    const cluster = new RedisCluster(nodes);
    if (masters === 1) {
      await nodes[0].admin.call('cluster', 'addslotsrange', 0, 16_383);
    } else {
      const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`);
      // prettier-ignore
      await cluster.cli('--cluster', 'create', ...addresses, '--cluster-replicas', `${replicas}`, '--cluster-yes');
    }
    await cluster.agreed();
    return cluster;
  }

  get addresses(): { host: string; port: number }[] {
    return this.nodes.map(({ port }) => ({ host: '127.0.0.1', port }));
  }

  /** Runs redis-cli to its end. */
  async cli(...args: string[]): Promise<void> {
    const cli = spawn('redis-cli', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    cli.stdout.on('data', (data) => (output += data));
    cli.stderr.on('data', (data) => (output += data));
    const [code] = await once(cli, 'exit');
    if (code !== 0) throw new Error(`redis-cli ${args.join(' ')}: ${output}`);
  }

  /** Settles when every node that runs sees a whole cluster. */
  async agreed(): Promise<void> {
    for (const { admin } of this.nodes) {
      for (;;) {
        const info = String(await admin.call('cluster', 'info'));
        const known = /cluster_known_nodes:(\d+)/.exec(info)?.[1];
        if (info.includes('cluster_state:ok') && Number(known) === this.nodes.length) break;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  async masters(): Promise<RedisServer[]> {
    const roles = await Promise.all(this.nodes.map(({ admin }) => admin.call('role') as Promise<string[]>));
    return this.nodes.filter((_, position) => roles[position][0] === 'master');
  }

  async clear(): Promise<void> {
    await Promise.all((await this.masters()).map(({ admin }) => admin.flushall()));
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.stop()));
  }
}
