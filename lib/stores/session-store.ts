/** What a store keeps about a session besides its fields. All instants are milliseconds since the epoch. */
export interface SessionHeader {
  readonly createdAt: number;
  readonly lastAccessedAt: number;
  /** The absolute instant at which the session ends. A store checks it on every read; its own TTL only collects garbage. */
  readonly expiresAt: number;
  /** Who is logged in; absent for a visitor. */
  readonly userId?: string;
}

/**
 * One session at rest. `fields` maps an opaque field name to an opaque text; a store moves both and looks
 * into neither.
 */
export interface SessionRecord extends SessionHeader {
  readonly fields: Map<string, string>;
}

/** What one request changed: fields to write, fields to remove, and the header values that move with them. */
export interface SessionDelta {
  readonly set: ReadonlyMap<string, string>;
  readonly delete: readonly string[];
  /** `userId: null` says that nobody is logged in any more. */
  readonly header: {
    readonly lastAccessedAt?: number;
    readonly expiresAt?: number;
    readonly userId?: string | null;
  };
}

/** Why a record that was there is not handed out: its time was over, or its bytes made no sense. */
export type DeadRecord = 'expired' | 'undecodable';

/**
 * The contract between the core and a place where sessions are kept.
 *
 * Ids are 64 lower-case hex digits (SHA-256 of the cookie's secret), never the secret. A rejected promise
 * means one thing: the store could not be reached. Nothing handed in or out may stay shared with the caller.
 */
export interface SessionStore {
  /**
   * How many sessions a store holds that keeps them in this process; `Infinity` for one that evicts none. Absent where
   * sessions outlive the process.
   */
  readonly maxSessions?: number;

  /** Stores a new record; `exists`, and nothing changed, if the id is taken by a live one. */
  create(id: string, record: SessionRecord): Promise<'created' | 'exists'>;

  /**
   * The live record, in one round trip. Missing, expired and undecodable records are `undefined`; the latter two
   * are removed, and `report` (when given) is told which it was before the promise settles.
   */
  load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined>;

  /** Moves the expiry of a live record and writes no data; `gone`, and nothing created, if there is none. */
  touch(id: string, expiresAt: number): Promise<'saved' | 'gone'>;

  /** Merges the delta into a live record, atomically; `gone`, and nothing created, if there is none. */
  commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'>;

  /**
   * Merges the delta and moves the live record to `newId`, after which `id` is gone; `gone`, and nothing created,
   * if there is none. Of two parallel rotations one is `saved`. When it answers, `listByUser` knows the new id.
   */
  rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'>;

  /** Removes the record; true if a live one was there. */
  destroy(id: string): Promise<boolean>;

  /**
   * Takes a live session over from another store, which keeps its copy until the session ends or gets a new id. For a
   * store whose sessions reach the browser only with the next response, such as one that keeps them in cookies: until
   * then the browser names the session as the other store knows it. What is here already is newer and stays. A session
   * that has no room here is not taken, and no error. Without this power, a session that moves is created here and
   * destroyed there.
   */
  adopt?(id: string, record: SessionRecord): Promise<void>;

  /**
   * The live sessions of a user, by id: those whose record has this `userId` in its header, whichever operation put it
   * there. One that is rotated meanwhile is there under one of its ids at least: if it was gone under the old one, it is
   * looked for again. An index that this needs is repaired here, and outlives none of its sessions.
   */
  listByUser?(userId: string): Promise<Map<string, SessionRecord>>;

  /** How many live sessions there are. */
  count?(): Promise<number>;

  /** Removes every session. */
  clear?(): Promise<void>;

  /** Removes expired records now, without blocking the event loop; how many there were. */
  sweep?(): Promise<number>;

  /** Stops timers and releases what the store itself opened. Called when the application shuts down. */
  close?(): Promise<void>;

  /** Rejects if the store cannot be reached. */
  ping?(): Promise<void>;
}

/** The injection token of the store in use; `@InjectSessionStore()` is the short form. */
export const SESSION_STORE = Symbol('SESSION_STORE');
