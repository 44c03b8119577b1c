import type { FlashMessages } from './flash-messages.js';
import type { SessionData } from '../options/session-data.js';

/**
 * The session of the current request: `@Session()` hands it to a controller, `request.session` holds it in guards.
 *
 * Values are any JSON value. Changes reach the store when the request completes, before the response is written;
 * `login`, `logout`, `regenerate`, `invalidate` and `save` reach it when awaited. A store that cannot be reached
 * rejects with `SessionStoreUnavailableException` (503).
 */
export interface Session<T extends object = SessionData> {
  /** Public id: SHA-256 of the cookie's secret in lower-case hex. Safe to log, list and revoke by; useless as a cookie. */
  readonly id: string;
  /** Whether the store has no record of it yet. */
  readonly isNew: boolean;
  /** Whether something is set, deleted or changed in place that has not been saved. */
  readonly isModified: boolean;
  readonly createdAt: Date;
  /** The last use before this request, to within a tenth of `maxAge`. */
  readonly lastAccessedAt: Date;
  /** When it ends unless it is used again. */
  readonly expiresAt: Date;
  /** The value under `auth.key`; undefined for a visitor. */
  readonly userId: string | undefined;
  /** A copy of everything, defaults included. Changing the copy changes nothing. */
  readonly data: Readonly<Partial<T>>;

  /** The value, else the one in `defaults`, else undefined. What is changed inside it is saved without a `set`. */
  get<K extends keyof T>(key: K): T[K] | undefined;
  /** The value, or `fallback` when there is none; the fallback is not stored. */
  get<K extends keyof T>(key: K, fallback: Exclude<T[K], undefined>): Exclude<T[K], undefined>;
  /** Stores a JSON value; `undefined` deletes. Anything else is a `SessionValueError`. */
  set<K extends keyof T>(key: K, value: T[K]): this;
  /** Sets several keys; a function gets a copy of the data and returns the keys to set. */
  update(patch: Partial<T> | ((data: Partial<T>) => Partial<T>)): this;
  /** Whether the key was set, whatever its value; defaults do not count. */
  has(key: keyof T): boolean;
  /** Deletes the key; whether it was there. */
  delete(key: keyof T): boolean;
  /** `get`, then `delete`. */
  pull<K extends keyof T>(key: K): T[K] | undefined;
  /** Adds to a number, starting from 0, and returns the sum. */
  increment(key: keyof T, by?: number): number;
  /** The keys that were set. */
  keys(): string[];
  /** Deletes every key and keeps the session and its flash messages. */
  clear(): this;

  /** Messages for the next page. */
  readonly flash: FlashMessages;

  /**
   * Logs a user in, together with what else is to be set: the session moves to a new id at once, so that an id known
   * from before is worth nothing (ASVS 5.0 V7.2.4). The user who is logged in already keeps the id; one who takes over
   * from another gets none of the other's data.
   */
  login(userId: string, data?: Partial<T>): Promise<void>;
  /** Ends the session, in the store and in the browser. What is set afterwards starts a new one. */
  logout(): Promise<void>;
  /** Moves the session, with what this request has changed, to a new id; the old id is gone. */
  regenerate(): Promise<void>;
  /** The same as {@link logout}. */
  invalidate(): Promise<void>;

  /** Extends the session even if `rolling` or its throttle would not. */
  touch(): void;
  /** Saves now: for streams and sockets. */
  save(): Promise<void>;
}
