import { Cluster, Redis } from 'ioredis';
import { Cluster as Cluster5, Redis as Redis5 } from 'ioredis5';
import type { RedisClient } from 'nest-session/redis';
import { RedisCluster } from './redis-cluster.js';
import { RedisServer } from './redis-server.js';
import { WITHOUT_SCRIPTS } from './without-scripts.js';

/** A client that the tests close. */
export type Client = RedisClient & { disconnect(): void; on(event: 'error', listener: () => void): unknown };

/** Somewhere a store can run. */
export interface Setting {
  readonly name: string;
  connect(): Client;
  /** Removes everything. */
  clear(): Promise<unknown>;
}

let plain: RedisServer;
let limited: RedisServer;
let cluster: RedisCluster;
let lonely: RedisCluster;

/** Starts the servers of all settings before the tests of a file, and stops them afterwards. */
export function startServers(): void {
  beforeAll(async () => {
    plain = await RedisServer.start();
    limited = await RedisServer.start(...WITHOUT_SCRIPTS);
    cluster = await RedisCluster.start();
    lonely = await RedisCluster.start({ masters: 1, replicas: 0 });
  });
  afterAll(() => Promise.all([plain.stop(), limited.stop(), cluster.stop(), lonely.stop()]));
}

/** What every store must do everywhere. */
export const settings: readonly Setting[] = [
  {
    name: 'one server',
    connect: () => new Redis(plain.port),
    clear: () => plain.admin.flushall(),
  },
  {
    name: 'one server, with ioredis 5',
    connect: () => new Redis5(plain.port),
    clear: () => plain.admin.flushall(),
  },
  {
    name: 'one server, the client having all its conveniences on',
    connect: () =>
      new Redis(plain.port, {
        keyPrefix: 'app[1]:',
        enableAutoPipelining: true,
        replyMapping: 'resp3',
        stringNumbers: true,
        lazyConnect: true,
      }),
    clear: () => plain.admin.flushall(),
  },
  {
    name: 'a server that refuses scripts',
    connect: () => new Redis(limited.port, { protocol: 2 }),
    clear: () => limited.admin.flushall(),
  },
  {
    name: 'a server that refuses scripts, with ioredis 5',
    connect: () => new Redis5(limited.port),
    clear: () => limited.admin.flushall(),
  },
  {
    name: 'a cluster of six',
    connect: () => new Cluster(cluster.addresses),
    clear: () => cluster.clear(),
  },
  {
    name: 'a cluster of six, with ioredis 5 and automatic pipelines',
    connect: () => new Cluster5(cluster.addresses, { enableAutoPipelining: true, keyPrefix: 'app:' }),
    clear: () => cluster.clear(),
  },
  {
    name: 'a cluster behind one address',
    connect: () => new Redis(lonely.nodes[0].port),
    clear: () => lonely.clear(),
  },
];
