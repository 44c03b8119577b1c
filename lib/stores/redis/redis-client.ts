import { createRequire } from 'node:module';
import { SessionConfigurationError } from '../../errors.js';

/** What a command takes. */
export type RedisArgument = string | number;

/**
 * The part of an ioredis client that the store uses: `Redis` (a single server or Sentinel) and `Cluster`, of version
 * 5 or 6, have it.
 */
export interface RedisClient {
  readonly status: string;
  readonly options: { readonly keyPrefix?: string | undefined };
  call(command: string, args: RedisArgument[]): Promise<unknown>;
  connect(): Promise<void>;
  once(event: 'ready', listener: () => void): unknown;
  /** The connection; a `Cluster` has one for each node. */
  readonly stream?: { cork(): void; uncork(): void };
  /** Only a `Cluster` has it. */
  nodes?(role: 'master'): RedisClient[];
}

/** A client that this library made, and therefore closes. */
export interface OwnedClient extends RedisClient {
  disconnect(): void;
}

export function isRedisClient(value: unknown): value is RedisClient {
  const client = value as Partial<RedisClient> | null | undefined;
  return (
    typeof client?.call === 'function' &&
    typeof client.once === 'function' &&
    typeof client.status === 'string'
  );
}

/** Connects to `redis://[user:password@]host[:port][/database]` or, with TLS, `rediss://…`. */
export function connect(url: string, commandTimeout: number): OwnedClient {
  if (typeof url !== 'string' || !/^rediss?:\/\/./.test(url) || !URL.canParse(url)) {
    // The value is not shown, since it may hold a password.
    throw new SessionConfigurationError(
      'RedisStore url',
      'it takes redis://[user:password@]host[:port][/database], or rediss://… for TLS',
    );
  }
  const { Redis } = loadIoredis();
  const client = new Redis(url, {
    // What was not answered when a connection broke has been refused by then, and must not be done later.
    maxRetriesPerRequest: 0,
    // A network that swallows packets leaves connections that look alive for minutes.
    socketTimeout: 5 * commandTimeout,
    // After a failover behind an address that stays, the old master has become a replica.
    reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
  });
  // Whoever waits for a command gets its error; without a listener ioredis would print it as well.
  client.on('error', () => {});
  return client;
}

interface Ioredis {
  Redis: new (
    url: string,
    options: object,
  ) => OwnedClient & { on(event: string, listener: () => void): void };
}

function loadIoredis(): Ioredis {
  try {
    return createRequire(import.meta.url)('ioredis') as Ioredis;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    throw new SessionConfigurationError(
      'RedisStore url',
      'it needs the package ioredis, which is not there: npm install ioredis',
    );
  }
}
