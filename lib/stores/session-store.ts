/** The properties of a session besides its fields. All instants are milliseconds since the epoch. */
export interface SessionHeader {
  readonly createdAt: number;
  readonly lastAccessedAt: number;
  /** The instant at which the session ends. A store checks it on every read; a TTL of the server only frees memory. */
  readonly expiresAt: number;
  /** The id of the logged-in user; absent for a visitor. */
  readonly userId?: string;
}

/**
 * A session as a store keeps it. `fields` maps names to texts. Both are opaque: a store copies them and never parses
 * them.
 */
export interface SessionRecord extends SessionHeader {
  readonly fields: Map<string, string>;
}

/** The changes of one request: fields to write, fields to remove, and header values to replace. */
export interface SessionDelta {
  readonly set: ReadonlyMap<string, string>;
  readonly delete: readonly string[];
  /** `userId: null` removes the user: the request logged out. */
  readonly header: {
    readonly lastAccessedAt?: number;
    readonly expiresAt?: number;
    readonly userId?: string | null;
  };
}

/** The reason why a store does not return a record that it found: it has expired, or it cannot be decoded. */
export type DeadRecord = 'expired' | 'undecodable';

/**
 * The contract of a store. `describeSessionStore` of `nest-session/testing` tests a store against it.
 *
 * Ids are 64 lower-case hex digits: SHA-256 of the cookie's secret, never the secret itself. A rejected promise means
 * that the store could not be reached. A store shares no object with its caller: it copies records and deltas.
 */
export interface SessionStore {
  /**
   * The number of sessions that a store in this process can hold; `Infinity` for one that evicts none. Absent in a store
   * whose sessions outlive the process.
   */
  readonly maxSessions?: number;

  /** Stores a new record. If a live record has the id, returns `exists` and changes nothing. */
  create(id: string, record: SessionRecord): Promise<'created' | 'exists'>;

  /**
   * Returns the live record, in one round trip. Returns `undefined` for a missing, expired or undecodable record. The
   * latter two are removed, and `report`, if given, is called with the reason before the promise settles.
   */
  load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined>;

  /** Changes `expiresAt` of a live record and nothing else. Without one, returns `gone` and creates nothing. */
  touch(id: string, expiresAt: number): Promise<'saved' | 'gone'>;

  /** Merges the delta into a live record, atomically. Without one, returns `gone` and creates nothing. */
  commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'>;

  /**
   * Merges the delta into a live record and moves it from `id` to `newId`. Without one, returns `gone` and creates
   * nothing. Of two parallel rotations of a record, one returns `saved`. From then on, `listByUser` has the new id.
   */
  rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'>;

  /** Removes the record. Returns true if it was live. */
  destroy(id: string): Promise<boolean>;

  /**
   * Copies a live session from another store, which keeps its own until the session ends or gets a new id. For a store
   * whose sessions reach the browser only with the next response, such as in cookies: until then, the browser has the
   * cookie of the other store. A session that is here already is newer and stays as it is. A session that is too large
   * is not copied, without an error. Without this method, a session is moved by `create` here and `destroy` there.
   */
  adopt?(id: string, record: SessionRecord): Promise<void>;

  /**
   * Returns the live sessions of a user by id: all records whose header has this `userId`. A session that is rotated
   * meanwhile must be listed under its old or its new id: look again for a session that was gone. This method repairs
   * an index that it needs. An entry of the index must not outlive its session.
   */
  listByUser?(userId: string): Promise<Map<string, SessionRecord>>;

  /** Returns the number of live sessions. */
  count?(): Promise<number>;

  /** Removes every session. */
  clear?(): Promise<void>;

  /** Removes expired records now, without blocking the event loop. Returns their number. */
  sweep?(): Promise<number>;

  /** Stops timers and closes connections that the store itself opened. Called when the application shuts down. */
  close?(): Promise<void>;

  /** Rejects if the store cannot be reached. */
  ping?(): Promise<void>;
}

/** The injection token of the store in use. `@InjectSessionStore()` is its short form. */
export const SESSION_STORE = Symbol('SESSION_STORE');
