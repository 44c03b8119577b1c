import { SessionStoreUnavailableException, SessionTooLargeError, SessionValueError } from '../errors.js';
import type { Identity } from '../crypto/session-signer.js';
import type { HttpRequest, Located } from '../http/request-context.js';
import type { Passenger } from '../http/response-hook.js';
import type { BoundedStore } from '../stores/bounded-store.js';
import type { SessionDelta, SessionRecord } from '../stores/session-store.js';
import { type FieldChanges, FieldSet } from './field-set.js';
import { type Ended, type Found, findSession } from './find-session.js';
import { loginFields } from './session-info.js';
import { SessionReply } from './session-reply.js';
import type { SessionRuntime } from './session-runtime.js';
import { Turns } from './turns.js';
import { SIGNED_OUT_ELSEWHERE } from './user-sessions.js';

/** The field a data key is stored in; flash messages and the library's own fields have other prefixes. */
export const DATA = 'data:';

/** Fields that live as long as the session's id: a rotation drops them. */
export const BOUND = 'id:';

/**
 * - `new`: the store knows nothing of it; the first write creates it.
 * - `stored`: it was loaded or created.
 * - `gone`: it ended elsewhere while this request ran; what is written now is dropped.
 * - `unavailable`: the store could not be reached and the request goes on without its session.
 */
type Status = 'new' | 'stored' | 'gone' | 'unavailable';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface Times {
  createdAt: number;
  lastAccessedAt: number;
  expiresAt: number;
}

/**
 * What one request does to one session, from the cookie that names it to the cookie that answers:
 *
 *     find → (read and write fields) → commit | rotate | create → Set-Cookie
 *
 * A commit never creates, and what is gone stays gone; only a session that this request began itself is created.
 */
export class SessionTransaction implements Passenger {
  status: Status;
  #fields: FieldSet | undefined;
  #times: Times | undefined;
  /** The user in the store, whatever has been written since. */
  storedUser: string | undefined;
  /** Why the session that the cookie named is no more. */
  readonly ended: Ended | undefined;

  /** The request whose cookie names the session. */
  readonly request: HttpRequest;

  readonly runtime: SessionRuntime;
  /** What the response says about all this. */
  readonly reply: SessionReply;
  #identity: Identity | undefined;
  /** The session is in its cookie, and nowhere else. */
  #byValue = false;
  /** The cookie is not as it would be written today. */
  #outdated = false;
  /** Something may have changed since the last commit. */
  #restless = false;
  #touched = false;
  /** What is created here carries on what the visitor began: no login, logout or new id came in between. */
  #carriesOn = true;
  /** Why the status is `unavailable`. */
  #unavailable: unknown;
  /** Store operations of this request run one after the other. */
  readonly #turns = new Turns();

  private constructor(runtime: SessionRuntime, at: Located, found: Found) {
    this.runtime = runtime;
    this.request = at.request;
    this.reply = new SessionReply(runtime, at, this);
    this.status = found.status;
    if (found.status === 'new') {
      this.ended = found.ended;
      // A late response must not delete a newer cookie, so only expiry deletes ours.
      if (found.ended === 'expired') this.reply.remove();
      this.#tell();
      return;
    }
    this.#identity = found.verified;
    if (found.status === 'unavailable') {
      this.#unavailable = found.error;
      return;
    }
    const { fields, userId, ...times } = found.record;
    this.#fields = new FieldSet(fields);
    this.storedUser = userId;
    this.#times = runtime.seen(times);
    this.#outdated = found.verified.outdated;
    this.#byValue = found.verified.byValue ?? false;
    this.#wake();
  }

  /** The transaction of a request, begun with the session that its cookie names. */
  static begin(runtime: SessionRuntime, at: Located): SessionTransaction | Promise<SessionTransaction> {
    const found = findSession(runtime, at);
    return found instanceof Promise
      ? found.then((session) => new SessionTransaction(runtime, at, session))
      : new SessionTransaction(runtime, at, found);
  }

  /** A session that was only loaded may still have to be extended, or its cookie signed anew. */
  #wake(): void {
    if (!this.#hasWork()) return;
    this.#restless = true;
    this.reply.wait();
  }

  get id(): string {
    return this.identity.id;
  }

  get fields(): FieldSet {
    return (this.#fields ??= new FieldSet());
  }

  /** Of a session that is not stored: as if it began now. */
  get times(): Times {
    return (this.#times ??= this.runtime.newTimes());
  }

  /** Made when it is first asked for, or needed. */
  get identity(): Identity {
    return (this.#identity ??= this.runtime.signer.newIdentity());
  }

  /** All of it, as it was last saved. */
  record(): SessionRecord {
    return { ...this.times, userId: this.storedUser, fields: this.fields.texts };
  }

  get isModified(): boolean {
    return this.status !== 'gone' && this.#fields?.changes() !== undefined;
  }

  /** The fields, for reading or writing: from now on the response varies with the cookie and waits for a commit. */
  use(): FieldSet {
    this.#restless = true;
    this.reply.vary();
    return this.fields;
  }

  touch(): void {
    this.#touched = true;
    this.use();
  }

  /** Saves what has changed since the last commit. */
  commit(): Promise<void> {
    return this.#turns.take(() => this.#write());
  }

  /**
   * Saves, then moves to a new id, with the data or `empty`. A session that is not in the store yet just gets another
   * id.
   */
  regenerate(empty: boolean): Promise<void> {
    this.use();
    return this.#turns.take(async () => {
      if (empty) for (const field of this.fields.names('')) this.fields.remove(field, field);
      if (this.status === 'unavailable') throw this.#unavailable;
      this.#carriesOn = false;
      if (this.status === 'stored') await this.#rotate(this.fields.changes());
      else if (this.status === 'new') this.#identity = undefined;
    });
  }

  /**
   * Saves a login. Where the session ended while this request ran, the user gets a new one, without anything of the
   * old: whoever is told "welcome" is logged in. Nor does one user get what another has left in the session.
   */
  login(userId: string, write: () => void): Promise<void> {
    this.use();
    return this.#turns.take(async () => {
      if (this.status === 'unavailable' || this.status === 'gone') this.#begin();
      if (this.storedUser !== undefined && this.storedUser !== userId) this.fields.forgetUnchanged();
      write();
      await this.#write();
      if (this.status !== 'gone') return;
      this.#begin();
      write();
      await this.#write();
    });
  }

  /** Ends the session in the store, now. What is written afterwards begins another. */
  invalidate(): Promise<void> {
    this.use();
    return this.#turns.take(async () => {
      let removed = false;
      if (this.status === 'stored' || this.status === 'unavailable') {
        // A session that is nowhere but in its cookie ends with that.
        const { byValue } = this.runtime.carrier;
        if (byValue && !byValue.revocations) this.reply.requireCookie();
        removed = await this.#store.destroy(this.id);
        if (removed) this.runtime.emit({ type: 'destroyed', id: this.id, userId: this.storedUser });
      }
      if (this.status !== 'new') this.reply.cookie = removed ? 'remove' : 'keep';
      this.#begin();
    });
  }

  /** The handler failed: what it wrote and did not save is dropped. */
  discard(): void {
    this.#fields?.discard();
    this.#touched = false;
    this.#tell();
  }

  /** The browser of a session that had to make room is told so with whatever it is answered. */
  #tell(): void {
    if (this.ended === 'elsewhere') this.use().write('flash:error', 'flash.error', SIGNED_OUT_ELSEWHERE);
  }

  // Passenger: what the response hook asks.

  pending(): boolean {
    if (this.#turns.taken) return true;
    if (!this.#restless) return false;
    try {
      if (this.#hasWork()) return true;
    } catch {
      return true; // a value that cannot be stored: settle() says so
    }
    this.#rest();
    return false;
  }

  /** A commit at the end of a request, where `onStoreError` says what a failure means. */
  async settle(): Promise<void> {
    try {
      await this.commit();
    } catch (error) {
      const { onStoreError } = this.runtime;
      if (error instanceof SessionValueError || error instanceof SessionTooLargeError) this.discard();
      const tolerable = error instanceof SessionStoreUnavailableException && onStoreError === 'anonymous';
      if (!tolerable || this.#becomesAnother(this.fields.changes())) {
        this.reply.saveFailed(error);
        throw error;
      }
      this.status = 'unavailable';
      this.#unavailable = error;
    }
  }

  failed(error: unknown): void {
    if (error instanceof SessionStoreUnavailableException) return; // logged where it happened
    this.runtime.logger.error(error instanceof Error ? (error.stack ?? error.message) : String(error));
  }

  // From here on: what a commit is made of. Each step runs alone, in its turn.

  get #store(): BoundedStore {
    if (this.#byValue) this.runtime.carrier.remind(this.id, () => this.record());
    return this.runtime.store;
  }

  /** Nothing to save until the session is used again, unless a value was handed out that may change in place. */
  #rest(): void {
    this.#restless = this.#fields?.holdsObjects ?? false;
  }

  #begin(): void {
    this.status = 'new';
    this.#fields = undefined;
    this.#times = undefined;
    this.storedUser = undefined;
    this.#identity = undefined;
    this.#touched = false;
    this.#carriesOn = false;
  }

  #hasWork(): boolean {
    if (this.status === 'gone') return false;
    const changed = this.#fields?.changes();
    if (this.status === 'new') return changed !== undefined;
    if (this.status === 'unavailable') return this.#becomesAnother(changed);
    return (
      changed !== undefined ||
      this.#extension(false) !== undefined ||
      (this.#outdated && this.reply.canSetCookie)
    );
  }

  async #write(): Promise<void> {
    this.#rest();
    const changes = this.fields.changes();
    if (this.#becomesAnother(changes)) return this.#becomeAnother();
    if (this.status === 'new' && changes) return this.#create(changes);
    if (this.status !== 'stored') return;
    const extension = this.#extension(changes !== undefined);
    const store = this.#store;
    if (changes) {
      if (this.runtime.carrier.byValue) this.reply.requireCookie();
      const header = this.#header(changes, extension?.expiresAt);
      const delta = { set: changes.set, delete: changes.delete, header };
      this.#concluded(await store.commit(this.id, delta), changes, header);
    } else if (extension) {
      this.#concluded(await store.touch(this.id, extension.expiresAt), undefined, extension);
    }
    if (this.status === 'stored' && this.#outdated && this.reply.canSetCookie) this.reply.cookie = 'issue';
    this.#outdated = false;
  }

  /** A login: it is remembered where it came from, and how many others the user may keep. */
  async #becomeAnother(): Promise<void> {
    if (this.status === 'gone') return;
    if (this.status === 'unavailable') this.#carryOver();
    for (const [field, value] of loginFields(this.request, this.runtime.users.loginAt())) {
      this.fields.write(field, field, value);
    }
    const changes = this.fields.changes() as FieldChanges;
    await (this.status === 'new' ? this.#create(changes) : this.#rotate(changes));
    if (this.status === 'stored' && this.storedUser !== undefined) await this.#limit(this.storedUser);
  }

  /** A login whose limit could not be seen to is none. */
  async #limit(userId: string): Promise<void> {
    try {
      await this.runtime.users.limit(userId);
    } catch (error) {
      await this.#store.destroy(this.id).catch(() => {});
      this.status = 'gone';
      this.reply.cookie = 'keep';
      throw error;
    }
  }

  async #create(changes: FieldChanges): Promise<void> {
    this.reply.requireCookie();
    const { store } = this.runtime;
    const userId = this.#newUser(changes) ?? undefined;
    const times = this.runtime.newTimes();
    const carriesOn = this.#carriesOn && userId === undefined;
    const bound = carriesOn ? this.runtime.onCreate.flatMap((fields) => fields(this)) : [];
    for (let attempt = 0; attempt < 3; attempt++) {
      const record = { ...times, userId, fields: new Map([...changes.set, ...bound]) };
      if ((await store.create(this.id, record)) === 'created') {
        this.status = 'stored';
        this.#byValue = this.runtime.carrier.byValue !== undefined;
        this.#times = times;
        this.#concluded('saved', { set: record.fields, delete: [] }, { userId });
        this.reply.cookie = 'issue';
        this.runtime.emit({ type: 'created', id: this.id, userId });
        return;
      }
      this.#identity = undefined;
    }
    throw new SessionStoreUnavailableException('create', new Error('every new id is said to be taken'));
  }

  async #rotate(changed: FieldChanges = { set: new Map(), delete: [] }): Promise<void> {
    this.reply.requireCookie();
    const { signer, carrier } = this.runtime;
    const store = this.#store;
    const previousId = this.id;
    const changes = { set: changed.set, delete: [...changed.delete, ...this.fields.names(BOUND)] };
    const next = signer.newIdentity();
    const expiresAt = Math.max(this.runtime.expiryOf(this.times), this.times.expiresAt);
    const header = this.#header(changes, expiresAt);
    this.#concluded(await store.rotate(previousId, next.id, { ...changes, header }), changes, header);
    if (this.status !== 'stored') return;
    this.#identity = next;
    this.#byValue = carrier.byValue !== undefined;
    this.reply.cookie = 'issue';
    this.#outdated = false;
    this.runtime.emit({ type: 'regenerated', id: next.id, previousId, userId: this.storedUser });
  }

  /** What the store answered, carried over into what we know. */
  #concluded(
    outcome: 'saved' | 'gone',
    changes: FieldChanges | undefined,
    header: SessionDelta['header'],
  ): void {
    if (outcome === 'gone') {
      this.status = 'gone';
      this.reply.cookie = 'keep';
      return;
    }
    if (changes) this.fields.saved(changes);
    if (this.runtime.carrier.byValue) this.reply.cookie = 'issue';
    if (header.userId !== undefined) this.storedUser = header.userId ?? undefined;
    if (header.expiresAt !== undefined) {
      this.times.expiresAt = header.expiresAt;
      this.reply.cookie = 'issue';
      this.#touched = false;
    }
  }

  /** A user other than the stored one; nobody at all is no other. */
  #becomesAnother(changes: FieldChanges | undefined): boolean {
    const userId = changes && this.#newUser(changes);
    return typeof userId === 'string' && userId !== this.storedUser;
  }

  #header(changes: FieldChanges, expiresAt: number | undefined): SessionDelta['header'] {
    const header: Mutable<SessionDelta['header']> = { lastAccessedAt: this.runtime.now() };
    if (expiresAt !== undefined) header.expiresAt = expiresAt;
    const userId = this.#newUser(changes);
    if (userId !== undefined) header.userId = userId;
    return header;
  }

  /** The user that is written; null for nobody, undefined if nothing is said. */
  #newUser(changes: FieldChanges): string | null | undefined {
    const field = DATA + this.runtime.authKey;
    const text = changes.set.get(field);
    if (text !== undefined) return userIdOf(JSON.parse(text)) ?? null;
    return changes.delete.includes(field) ? null : undefined;
  }

  /** A login in a session that could not be loaded: it starts afresh, with nothing but what was written. */
  #carryOver(): void {
    this.status = 'new';
    this.#identity = undefined;
    this.#times = undefined;
  }

  /**
   * A later expiry, when it is time for one. Cookie and record are extended together or not at all: a record that
   * outlives its cookie would never look due again.
   */
  #extension(writing: boolean): { expiresAt: number; lastAccessedAt: number } | undefined {
    if (this.status !== 'stored') return undefined;
    const { rolling, throttle } = this.runtime;
    if (!rolling && !writing && !this.#touched) return undefined;
    const expiresAt = this.runtime.expiryOf(this.times);
    const gained = expiresAt - this.times.expiresAt;
    if (gained <= 0 || (gained < throttle && !this.#touched) || !this.reply.canSetCookie) return undefined;
    return { expiresAt, lastAccessedAt: this.runtime.now() };
  }
}

/** A user id as text: strings, and numbers for those who count their users. */
export function userIdOf(value: unknown): string | undefined {
  if (typeof value === 'number') return String(value);
  return typeof value === 'string' && value !== '' ? value : undefined;
}
