import { SessionConfigurationError } from '../../errors.js';
import { text } from '../../util/checks.js';
import { parseDuration } from '../../util/duration.js';

/** Options of {@link SolidbStore}. */
export interface SolidbStoreOptions {
  /** Where the server is, such as `https://db.example.com:6745`. */
  url: string;
  /** The database; made when missing, if the credentials allow it. */
  database: string;
  /**
   * The collection; made when missing, if the credentials allow it. It should hold nothing but sessions:
   * `clear()` empties it.
   * @default 'sessions'
   */
  collection?: string;
  /** An API key with a role for the database. Either this, or `username` and `password`. */
  apiKey?: string;
  username?: string;
  password?: string;
  /**
   * How long one operation may take, with all its requests and waits: seconds, or text such as `'500ms'`.
   * @default 2
   */
  timeout?: number | string;
  /**
   * What sends the requests, for a proxy or a certificate of your own.
   * @default the platform's fetch
   */
  fetch?: typeof fetch;
  /**
   * Whether a server on another machine may be spoken to over plain HTTP or without credentials. Both show every
   * session to whoever can listen or connect.
   * @default false
   */
  allowInsecure?: boolean;
  /**
   * Leaves the collecting of expired sessions to a TTL index of the server's. From SoliDB 1.2 on; with an older one,
   * whose TTL worker deletes live documents, it is ignored with a warning.
   * @default false
   */
  ttlIndex?: boolean;
  /**
   * How often expired sessions are collected by a query, in each process: seconds, or text such as `'1h'`.
   * @default 300
   */
  sweepInterval?: number | string;
  /**
   * The current time in milliseconds; for tests.
   * @default Date.now
   */
  clock?: () => number;
}

/** How the server knows who is asking. */
export type SolidbCredentials =
  { readonly apiKey: string } | { readonly username: string; readonly password: string } | undefined;

/** The options, checked and complete. */
export interface ResolvedSolidbOptions {
  /** Without a slash at the end. */
  readonly url: string;
  readonly database: string;
  readonly collection: string;
  readonly credentials: SolidbCredentials;
  /** Milliseconds, as is the next. */
  readonly timeout: number;
  readonly sweepInterval: number;
  readonly fetch: typeof fetch;
  readonly ttlIndex: boolean;
  readonly clock: () => number;
}

const named = (name: keyof SolidbStoreOptions): string => `SolidbStore ${name}`;

/** Names go into paths, and the collection's into queries, where nothing could quote it. */
const NAME = /^[A-Za-z][A-Za-z0-9_]*$/;
const NAME_TAKES = 'a letter, and then letters, digits or underscores';

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

/** What is wrong with a secret is said without it. */
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

/** An address may hold a password, so none is shown. */
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
      'it takes an address without credentials, query or fragment. Credentials go into apiKey, or username and password',
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
