import { SessionStoreUnavailableException } from '../errors.js';
import type { HttpRequest, Located } from '../http/request-context.js';
import type { BoundedStore } from '../stores/bounded-store.js';
import type { SessionDelta, SessionRecord } from '../stores/session-store.js';
import type { Identity, SessionTravel } from '../stores/session-travel.js';
import { type FieldChanges, FieldSet } from './session-fields.js';
import { type Ended, type Found, findSession } from './find-session.js';
import { BOUND_TO_ID, FLASH } from './field-names.js';
import { expiryOf, extendedExpiry, newTimes, type Times, timesOf } from './lifetime.js';
import { changesUser, loginFields, writtenUser } from './login.js';
import { SessionResponse } from './session-response.js';
import type { SessionRuntime } from './session-runtime.js';
import { type Look, SessionSaving, type Unsaved } from './session-saving.js';
import { SIGNED_OUT_ELSEWHERE } from './user-sessions.js';

/**
 * - `new`: the store knows nothing of it; the first write creates it.
 * - `stored`: it was loaded or created.
 * - `gone`: it ended elsewhere while this request ran; what is written now is dropped.
 * - `unavailable`: the store could not be reached and the request goes on without its session.
 */
type Status = 'new' | 'stored' | 'gone' | 'unavailable';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * What one request does to one session, from the cookie that names it to the cookie that answers:
 *
 *     find → (read and write fields) → commit | rotate | create → Set-Cookie
 *
 * A commit never creates, and what is gone stays gone; only a session that this request began itself is created.
 */
export class SessionTransaction {
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
  readonly reply: SessionResponse;
  readonly saving: SessionSaving;
  #identity: Identity | undefined;
  /** How the stored session came, or will come with its next cookie. */
  #travel: SessionTravel | undefined;
  /** The cookie is not as it would be written today. */
  #outdated = false;
  #touched = false;
  /** What is created here carries on what the visitor began: no login, logout or new id came in between. */
  #continuesVisit = true;
  /** Why the status is `unavailable`. */
  #unavailable: unknown;

  private constructor(runtime: SessionRuntime, at: Located, found: Found) {
    this.runtime = runtime;
    this.request = at.request;
    this.reply = new SessionResponse(runtime, at, this);
    this.saving = new SessionSaving(this);
    this.status = found.status;
    if (found.status === 'new') {
      this.ended = found.ended;
      // A late response must not delete a newer cookie, so only expiry deletes ours.
      if (found.ended === 'expired') this.reply.remove();
      this.#flashDisplaced();
      return;
    }
    this.#identity = found.verified;
    if (found.status === 'unavailable') {
      this.#unavailable = found.error;
      this.#fields = new FieldSet(new Map(), true);
      return;
    }
    const { fields, userId, ...times } = found.record;
    this.#fields = new FieldSet(fields);
    this.storedUser = userId;
    this.#times = timesOf(runtime.lifetime, times);
    this.#outdated = found.verified.outdated;
    this.#travel = found.verified.travel;
    // It may be due for an extension by the time of the answer, or be written as late as the headers.
    this.reply.wait();
  }

  /** The transaction of a request, begun with the session that its cookie names. */
  static begin(runtime: SessionRuntime, at: Located): SessionTransaction | Promise<SessionTransaction> {
    const found = findSession(runtime, at);
    return found instanceof Promise
      ? found.then((session) => new SessionTransaction(runtime, at, session))
      : new SessionTransaction(runtime, at, found);
  }

  get id(): string {
    return this.identity.id;
  }

  get fields(): FieldSet {
    return (this.#fields ??= new FieldSet());
  }

  /** Of a session that is not stored: as if it began now. */
  get times(): Times {
    return (this.#times ??= newTimes(this.runtime.lifetime, this.runtime.now()));
  }

  /** Made when it is first asked for, or needed. */
  get identity(): Identity {
    return (this.#identity ??= this.runtime.travel.newIdentity());
  }

  /** All of it, as it was last saved. */
  record(): SessionRecord {
    return { ...this.times, userId: this.storedUser, fields: this.fields.texts };
  }

  /** What the store has of it now; undefined if it has ended. For those who keep a session longer than a request. */
  reload(): Promise<SessionRecord | undefined> {
    return this.#store.load(this.id, () => {});
  }

  get isModified(): boolean {
    return this.status !== 'gone' && this.#fields?.changes() !== undefined;
  }

  /** The fields, for reading: from now on the response varies with the cookie and waits for a save. */
  use(): FieldSet {
    this.reply.vary();
    return this.fields;
  }

  /** The fields, for writing: what is written counts as work that no save has seen yet. */
  change(): FieldSet {
    this.saving.changed();
    const fields = this.use();
    if (this.reply.isClosed) this.saving.reportLoss();
    return fields;
  }

  touch(): void {
    this.#touched = true;
    this.change();
  }

  /** Saves what has changed since the last save. Rejects if that fails, whatever `onStoreError` says. */
  commit(): Promise<void> {
    return this.saving.byHand('save', () => this.saving.saveNow());
  }

  /**
   * Saves, then moves to a new id, with the data or `empty`. A session that is not in the store yet just gets another
   * id.
   */
  regenerate(empty: boolean): Promise<void> {
    this.change();
    return this.saving.byHand('identity', async () => {
      if (this.status === 'stored') this.reply.requireCookie();
      const seen = this.saving.version;
      if (empty) for (const field of this.fields.names('')) this.fields.remove(field, field);
      if (this.status === 'unavailable') throw this.#unavailable;
      this.#continuesVisit = false;
      if (this.status === 'new') this.#identity = undefined;
      if (this.status !== 'stored') return false;
      const changes = this.fields.changes();
      await (this.#changesUser(changes) ? this.#changeUser(changes as FieldChanges) : this.#rotate(changes));
      this.saving.savedUpTo(seen);
      return true;
    });
  }

  /**
   * Saves a login. Where the session ended while this request ran, the user gets a new one, without anything of the
   * old: whoever is told "welcome" is logged in. Nor does one user get what another has left in the session.
   */
  login(userId: string, write: () => void): Promise<void> {
    this.change();
    return this.saving.byHand('login', async () => {
      if (userId !== this.storedUser || this.runtime.travel.current.writesNeedCookie)
        this.reply.requireCookie();
      if (this.status === 'unavailable' || this.status === 'gone') this.#reset();
      write();
      await this.saving.saveNow();
      if (this.status === 'gone') {
        this.#reset();
        write();
        await this.saving.saveNow();
      }
      return true;
    });
  }

  /** Ends the session in the store, now. What is written afterwards begins another. */
  invalidate(): Promise<void> {
    this.change();
    return this.saving.byHand('identity', async () => {
      const { status, storedUser } = this;
      const wasStored = status === 'stored' || status === 'unavailable';
      if (wasStored && this.runtime.travel.current.endNeedsCookie) this.reply.requireCookie();
      const [store, before] = [this.#store, this.#identity];
      const state = [this.#fields, this.#times, this.#touched, this.#continuesVisit] as const;
      // At once: what is written while the store ends this one belongs to the next.
      this.#reset();
      try {
        const removed = wasStored && before !== undefined && (await store.destroy(before.id));
        if (removed) this.runtime.emit({ type: 'destroyed', id: before.id, userId: storedUser });
        if (status !== 'new') this.reply.cookie = removed ? 'remove' : 'keep';
      } catch (error) {
        this.status = status;
        this.storedUser = storedUser;
        this.#identity = before;
        [this.#fields, this.#times, this.#touched, this.#continuesVisit] = state;
        throw error;
      }
      return true;
    });
  }

  /** The browser of a session that had to make room is told so with whatever it is answered. */
  #flashDisplaced(): void {
    if (this.ended === 'displaced') this.change().write(`${FLASH}error`, 'flash.error', SIGNED_OUT_ELSEWHERE);
  }

  // From here on: what a commit is made of. Each step runs alone, in its turn.

  get #store(): BoundedStore {
    if (this.#travel) this.runtime.travel.restore(this.#travel, this);
    return this.runtime.store;
  }

  #reset(): void {
    this.status = 'new';
    this.#fields = undefined;
    this.#times = undefined;
    this.storedUser = undefined;
    this.#identity = undefined;
    this.#touched = false;
    this.#continuesVisit = false;
  }

  /**
   * Finds what is unsaved; undefined if nothing is. Reads the clock once. Throws `SessionValueError` for a value that
   * cannot be stored.
   *
   * @param look `in place`: values that were handed out are compared as well
   */
  unsaved(look: Look, isWritten: boolean): Unsaved | undefined {
    if (this.status === 'gone') return undefined;
    const mayHaveChanged = isWritten || (look === 'in place' && this.#fields?.holdsObjects);
    const changes = mayHaveChanged ? this.#fields?.changes() : undefined;
    const extended = this.#extension(changes !== undefined);
    const isDue =
      this.status === 'stored' && (extended !== undefined || (this.#outdated && this.reply.canSetCookie));
    const isLost =
      (this.status === 'unavailable' && !this.#changesUser(changes)) ||
      (this.status === 'new' && this.reply.isAbandoned);
    return isDue || (changes && !isLost) ? { changes, extension: extended } : undefined;
  }

  drop(): void {
    this.#fields?.discard();
    this.#touched = false;
    this.#flashDisplaced();
  }

  changesSoFar(): FieldChanges | undefined {
    return this.#fields?.unsaved();
  }

  putBack(changes: FieldChanges): void {
    this.change().restore(changes);
  }

  /** With `onStoreError: 'anonymous'`, unless somebody logs in or out. */
  goesOnWithout(error: unknown): boolean {
    const isTolerable =
      error instanceof SessionStoreUnavailableException && this.runtime.onStoreError === 'anonymous';
    if (!isTolerable || this.#changesUser(this.fields.changes())) return false;
    this.status = 'unavailable';
    this.#unavailable = error;
    return true;
  }

  /** Saves. Runs in its turn. */
  async save({ changes, extension }: Unsaved): Promise<void> {
    if (changes && this.#changesUser(changes)) return this.#changeUser(changes);
    if (this.status === 'new' && changes) return this.#create(changes);
    if (this.status !== 'stored') return;
    const store = this.#store;
    if (changes) {
      if (this.runtime.travel.current.writesNeedCookie) this.reply.requireCookie();
      const header = this.#header(changes, extension?.expiresAt);
      const delta = { set: changes.set, delete: changes.delete, header };
      this.#applyOutcome(await store.commit(this.id, delta), changes, header);
    } else if (extension) {
      this.#applyOutcome(await store.touch(this.id, extension.expiresAt), undefined, extension);
    }
    if (this.status === 'stored' && this.#outdated && this.reply.canSetCookie) this.reply.cookie = 'issue';
    this.#outdated = false;
  }

  /**
   * Another user, or nobody, has the session from now on: it gets a new id, and keeps nothing of the user's before.
   * Of a login it is remembered where it came from, and how many others the user may keep.
   */
  async #changeUser(written: FieldChanges): Promise<void> {
    if (this.status === 'gone') return;
    const isLogin = writtenUser(written, this.runtime.authKey) !== null;
    if (this.status === 'unavailable') {
      if (!isLogin) throw this.#unavailable;
      this.#startAfresh();
    }
    const save = async (): Promise<void> => {
      for (const [field, value] of loginFields(this.request, this.runtime.users.loginAt())) {
        this.fields.write(field, field, isLogin ? value : undefined);
      }
      const changes = this.fields.changes();
      if (changes) await (this.status === 'new' ? this.#create(changes) : this.#rotate(changes));
    };
    await (this.storedUser === undefined ? save() : this.#replaceWith(save));
    if (this.status === 'stored' && this.storedUser !== undefined) await this.#limit(this.storedUser);
  }

  /**
   * Begins another session, with what this request has set, and ends that of the user before. A rotation would also take
   * along what others have written since this request began. Nothing has changed if it rejects.
   */
  async #replaceWith(save: () => Promise<void>): Promise<void> {
    this.reply.requireCookie();
    const { store, id, storedUser } = { store: this.#store, id: this.id, storedUser: this.storedUser };
    const state = [this.#identity, this.#times, this.#fields, this.#travel, this.reply.cookie] as const;
    this.#startAfresh();
    this.storedUser = undefined;
    this.#continuesVisit = false;
    this.#fields = this.#fields?.onlyWritten();
    try {
      await save();
      if (await store.destroy(id)) {
        this.runtime.emit({ type: 'destroyed', id, userId: storedUser });
        if (this.status === 'new') this.reply.cookie = 'remove'; // nobody's, and empty
        return;
      }
      // It has ended meanwhile, and nothing comes of it.
      if (this.status === 'stored') await this.#store.destroy(this.id);
      this.#applyOutcome('gone', undefined, {});
    } catch (error) {
      if (this.status === 'stored') await this.#store.destroy(this.id).catch(() => {});
      [this.#identity, this.#times, this.#fields, this.#travel, this.reply.cookie] = state;
      this.status = 'stored';
      this.storedUser = storedUser;
      throw error;
    }
  }

  /** A login whose limit could not be seen to is none. */
  async #limit(userId: string): Promise<void> {
    try {
      await this.runtime.users.limit(userId);
    } catch (error) {
      await this.#endUnderNewId().catch(() => {});
      throw error;
    }
  }

  async #create(changes: FieldChanges): Promise<void> {
    this.reply.requireCookie();
    const { store } = this.runtime;
    const userId = writtenUser(changes, this.runtime.authKey) ?? undefined;
    const times = newTimes(this.runtime.lifetime, this.runtime.now());
    const isVisit = this.#continuesVisit && userId === undefined;
    const bound = isVisit ? this.runtime.extensions.flatMap((extension) => extension.created(this)) : [];
    for (let attempt = 0; attempt < 3; attempt++) {
      const record = { ...times, userId, fields: new Map([...changes.set, ...bound]) };
      if ((await store.create(this.id, record)) === 'created') {
        this.status = 'stored';
        this.#travel = this.runtime.travel.current;
        this.#times = times;
        this.#applyOutcome('saved', { set: record.fields, delete: [] }, { userId });
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
    const { travel } = this.runtime;
    const store = this.#store;
    const { id: previousId, storedUser: previousUser } = this;
    const changes = { set: changed.set, delete: [...changed.delete, ...this.fields.names(BOUND_TO_ID)] };
    const next = travel.newIdentity();
    const expiresAt = Math.max(
      expiryOf(this.runtime.lifetime, this.times.createdAt, this.runtime.now()),
      this.times.expiresAt,
    );
    const header = this.#header(changes, expiresAt);
    this.#applyOutcome(await store.rotate(previousId, next.id, { ...changes, header }), changes, header);
    if (this.status !== 'stored') return;
    this.#identity = next;
    this.#travel = travel.current;
    this.#outdated = false;
    if (previousUser !== undefined && previousUser === this.storedUser) {
      await this.#endIfOthersDo(previousUser, previousId);
      if (this.status !== 'stored') return;
    }
    this.reply.cookie = 'issue';
    this.runtime.emit({ type: 'regenerated', id: next.id, previousId, userId: this.storedUser });
  }

  /**
   * Whoever ends all sessions of the user may have looked for this one under its old id. No cookie has the new one yet,
   * so it ends here; also where the store cannot be asked, since nobody would know.
   */
  async #endIfOthersDo(userId: string, previousId: string): Promise<void> {
    try {
      if (!(await this.runtime.users.isEnding(userId, previousId))) return;
      await this.#endUnderNewId();
      this.runtime.emit({ type: 'destroyed', id: previousId, userId });
    } catch (error) {
      if (this.status === 'stored') await this.#endUnderNewId().catch(() => {});
      throw error;
    }
  }

  async #endUnderNewId(): Promise<void> {
    this.status = 'gone';
    this.reply.cookie = 'keep';
    await this.#store.destroy(this.id);
  }

  /** What the store answered, carried over into what we know. */
  #applyOutcome(
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
    if (this.runtime.travel.current.writesNeedCookie) this.reply.cookie = 'issue';
    if (header.userId !== undefined) this.storedUser = header.userId ?? undefined;
    if (header.expiresAt !== undefined) {
      this.#times = { ...this.times, expiresAt: header.expiresAt };
      this.reply.cookie = 'issue';
      this.#touched = false;
    }
  }

  /** True for a login, and for the end of one. */
  #changesUser(changes: FieldChanges | undefined): boolean {
    // Nobody knows whose a session is that could not be loaded.
    if (this.status === 'unavailable' && changes && writtenUser(changes, this.runtime.authKey) === null)
      return true;
    return changesUser(changes, this.runtime.authKey, this.storedUser);
  }

  #header(changes: FieldChanges, expiresAt: number | undefined): SessionDelta['header'] {
    const header: Mutable<SessionDelta['header']> = { lastAccessedAt: this.runtime.now() };
    if (expiresAt !== undefined) header.expiresAt = expiresAt;
    const userId = writtenUser(changes, this.runtime.authKey);
    if (userId !== undefined) header.userId = userId;
    return header;
  }

  /** A login in a session that could not be loaded: it starts afresh, with nothing but what was written. */
  #startAfresh(): void {
    this.status = 'new';
    this.#identity = undefined;
    this.#times = undefined;
  }

  /**
   * A later expiry, when it is time for one. Cookie and record are extended together or not at all: a record that
   * outlives its cookie would never look due again.
   */
  #extension(writing: boolean): Unsaved['extension'] {
    if (this.status !== 'stored') return undefined;
    const now = this.runtime.now();
    const expiresAt = extendedExpiry(this.runtime.lifetime, this.times, now, writing, this.#touched);
    if (expiresAt === undefined || !this.reply.canSetCookie) return undefined;
    return { expiresAt, lastAccessedAt: now };
  }
}
