import { SessionConfigurationError } from '../../errors.js';
import { text } from '../../util/checks.js';
import { parseDuration } from '../../util/duration.js';

/** Options of {@link SolidbStore}. */
export interface SolidbStoreOptions {
  /** The address of the server, such as `https://db.example.com:6745`. */
  url: string;
  /** The database. It is created when missing, if the credentials allow it. */
  database: string;
  /**
   * The collection. It is created when missing, if the credentials allow it. It should hold only sessions: `clear()`
   * empties it.
   * @default 'sessions'
   */
  collection?: string;
  /** An API key with a role for the database. Either this, or `username` and `password`. */
  apiKey?: string;
  username?: string;
  password?: string;
  /**
   * The longest time of one operation, with all its requests and waits: seconds, or text such as `'500ms'`.
   * @default 2
   */
  timeout?: number | string;
  /**
   * The function that sends the requests, for a proxy or a certificate of your own.
   * @default the platform's fetch
   */
  fetch?: typeof fetch;
  /**
   * Allows plain HTTP to a server on another machine, and a connection to it without credentials. Both show every
   * session to anyone who can listen or connect.
   * @default false
   */
  allowInsecure?: boolean;
  /**
   * `true`: the server removes expired sessions by a TTL index. From SoliDB 1.2 on. With an older server, whose TTL
   * worker deletes live documents, it is ignored with a warning.
   * @default false
   */
  ttlIndex?: boolean;
  /**
   * Interval at which each process removes expired sessions by a query: seconds, or text such as `'1h'`.
   * @default 300
   */
  sweepInterval?: number | string;
  /**
   * The current time in milliseconds; for tests.
   * @default Date.now
   */
  clock?: () => number;
}

/** The credentials for the server. */
export type SolidbCredentials =
  { readonly apiKey: string } | { readonly username: string; readonly password: string } | undefined;

/** {@link SolidbStoreOptions}, checked and with defaults. */
export interface ResolvedSolidbOptions {
  /** The address, without a slash at the end. */
  readonly url: string;
  readonly database: string;
  readonly collection: string;
  readonly credentials: SolidbCredentials;
  /** `timeout` and `sweepInterval` are in milliseconds. */
  readonly timeout: number;
  readonly sweepInterval: number;
  readonly fetch: typeof fetch;
  readonly ttlIndex: boolean;
  readonly clock: () => number;
}

const named = (name: keyof SolidbStoreOptions): string => `SolidbStore ${name}`;

/** Names are part of paths and queries, in which they cannot be quoted. */
const NAME = /^[A-Za-z][A-Za-z0-9_]*$/;
const NAME_TAKES = 'a letter, and then letters, digits or underscores';

/** Checks the options. Throws {@link SessionConfigurationError}. */
export function resolveSolidbOptions(options: SolidbStoreOptions): ResolvedSolidbOptions {
  const { allowInsecure = false, ttlIndex = false } = options;
  const credentials = credentialsOf(options);
  return {
    url: addressOf(options.url, credentials, allowInsecure),
    database: text(options.database, named('database'), NAME, NAME_TAKES),
    collection: text(options.collection ?? 'sessions', named('collection'), NAME, NAME_TAKES),
    credentials,
    timeout: parseDuration(options.timeout ?? 2, named('timeout')),
    sweepInterval: parseDuration(options.sweepInterval ?? 300, named('sweepInterval')),
    fetch: options.fetch ?? globalThis.fetch,
    ttlIndex,
    clock: options.clock ?? Date.now,
  };
}

/** Checks the credentials. An error never contains them. */
function credentialsOf({ apiKey, username, password }: SolidbStoreOptions): SolidbCredentials {
  if (apiKey !== undefined) {
    if (username !== undefined || password !== undefined) {
      throw new SessionConfigurationError(
        named('apiKey'),
        'it is given beside username or password. Give one or the other',
      );
    }
    if (typeof apiKey !== 'string' || !/^[\x21-\x7e]+$/.test(apiKey)) {
      throw new SessionConfigurationError(
        named('apiKey'),
        'it takes text without spaces, as the server gave it out',
      );
    }
    return { apiKey };
  }
  if (username === undefined && password === undefined) return undefined;
  for (const [name, value] of Object.entries({ username, password })) {
    if (typeof value !== 'string' || value === '') {
      throw new SessionConfigurationError(
        `SolidbStore ${name}`,
        'it takes text. username and password come together',
      );
    }
  }
  return { username, password } as { username: string; password: string };
}

/** Checks the address. An error never contains it, because it may hold a password. */
function addressOf(given: unknown, credentials: SolidbCredentials, allowInsecure: boolean): string {
  const url = typeof given === 'string' && URL.canParse(given) ? new URL(given) : undefined;
  if (!url || !/^https?:$/.test(url.protocol)) {
    throw new SessionConfigurationError(
      named('url'),
      'it takes an address such as https://db.example.com:6745',
    );
  }
  if (url.username || url.password || url.search || url.hash) {
    throw new SessionConfigurationError(
      named('url'),
      'it takes an address without credentials, query or fragment. Put credentials into apiKey, or username and password',
    );
  }
  if (!allowInsecure && !isLoopback(url.hostname)) {
    if (url.protocol === 'http:') {
      throw new SessionConfigurationError(
        named('url'),
        'plain HTTP to another machine shows every session to whoever listens. Use https, or set allowInsecure',
      );
    }
    if (!credentials) {
      throw new SessionConfigurationError(
        named('apiKey'),
        'it is not set, nor username and password. A server on another machine needs them, or allowInsecure',
      );
    }
  }
  return url.href.replace(/\/$/, '');
}

function isLoopback(hostname: string): boolean {
  return /^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}
