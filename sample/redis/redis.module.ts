import { Inject, Module, type OnApplicationShutdown } from '@nestjs/common';
import { Cluster, Redis } from 'ioredis';

/** The application's connection, for sessions and for whatever else it keeps in Redis. */
export const REDIS = Symbol('REDIS');

type Client = Redis | Cluster;

/** `host:port,host:port` as ioredis takes it. */
function addresses(text: string): { host: string; port: number }[] {
  return text.split(',').map((address) => {
    const { hostname, port } = new URL(`redis://${address.trim()}`);
    return { host: hostname, port: Number(port || 6379) };
  });
}

/** One server (`REDIS_URL`), Sentinel (`REDIS_SENTINELS` and `REDIS_MASTER`) or Cluster (`REDIS_CLUSTER`). */
export function connect(variables: NodeJS.ProcessEnv = process.env): Client {
  const {
    REDIS_URL = 'redis://localhost:6379',
    REDIS_SENTINELS,
    REDIS_MASTER = 'mymaster',
    REDIS_CLUSTER,
  } = variables;
  if (REDIS_CLUSTER) return new Cluster(addresses(REDIS_CLUSTER));
  if (REDIS_SENTINELS) return new Redis({ sentinels: addresses(REDIS_SENTINELS), name: REDIS_MASTER });
  return new Redis(REDIS_URL);
}

@Module({
  providers: [
    {
      provide: REDIS,
      useFactory: () => {
        const client = connect();
        // ioredis reconnects by itself; without a listener it would print every attempt.
        client.on('error', (error: Error) => console.error(`Redis: ${error.message}`));
        return client;
      },
    },
  ],
  exports: [REDIS],
})
export class RedisModule implements OnApplicationShutdown {
  constructor(@Inject(REDIS) private readonly client: Client) {}

  /** A client that the application makes is the application's to close. */
  onApplicationShutdown(): void {
    this.client.disconnect();
  }
}
