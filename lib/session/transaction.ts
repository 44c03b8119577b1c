import {
  SessionStoreUnavailableException,
  SessionTooLargeError,
  SessionUsageError,
  SessionValueError,
} from '../errors.js';
import type { Identity } from '../crypto/session-signer.js';
import type { HttpRequest, Located } from '../http/request-context.js';
import type { BoundedStore } from '../stores/bounded-store.js';
import type { SessionDelta, SessionRecord } from '../stores/session-store.js';
import { type FieldChanges, FieldSet } from './field-set.js';
import { type Ended, type Found, findSession } from './find-session.js';
import { BOUND_TO_ID, FLASH } from './field-names.js';
import { expiryOf, extension, newTimes, type Times, timesOf } from './lifetime.js';
import { changesUser, loginFields, writtenUser } from './login.js';
import { SessionReply } from './session-reply.js';
import type { SessionRuntime } from './session-runtime.js';
import { Turns } from './turns.js';
import { SIGNED_OUT_ELSEWHERE } from './user-sessions.js';

/**
 * - `new`: the store knows nothing of it; the first write creates it.
 * - `stored`: it was loaded or created.
 * - `gone`: it ended elsewhere while this request ran; what is written now is dropped.
 * - `unavailable`: the store could not be reached and the request goes on without its session.
 */
type Status = 'new' | 'stored' | 'gone' | 'unavailable';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The work of one save. */
interface Work {
  readonly changes: FieldChanges | undefined;
  readonly extension: { readonly expiresAt: number; readonly lastAccessedAt: number } | undefined;
}

/** The place a save looks for changes in: what was written, or also the values that were handed out. */
type Look = 'written' | 'in place';

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
  readonly reply: SessionReply;
  #identity: Identity | undefined;
  /** The session is in its cookie, and nowhere else. */
  #byValue = false;
  /** The cookie is not as it would be written today. */
  #outdated = false;
  /** Raised by everything that a save may have to do something about; see {@link change}. */
  #version = 0;
  /** The version that was last saved, or found to need no save. */
  #savedVersion = 0;
  /** The error of the last save or login, until one succeeds; of a logout or a rotation, until one of those does. */
  #failure: { readonly error: unknown; readonly ofSave: boolean } | undefined;
  /** Handlers under way: what they write is saved when they are done. */
  #handlers = 0;
  #wasTried = false;
  /** The changes of guards, made before the handler was first tried. */
  #beforeTries: FieldChanges | undefined;
  #isLossReported = false;
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
    this.#times = timesOf(runtime.lifetime, times);
    this.#outdated = found.verified.outdated;
    this.#byValue = found.verified.byValue ?? false;
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
    return (this.#identity ??= this.runtime.signer.newIdentity());
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
    this.#version++;
    const fields = this.use();
    if (this.reply.isClosed) this.#reportLoss();
    return fields;
  }

  touch(): void {
    this.#touched = true;
    this.change();
  }

  /** Saves what has changed since the last save. Rejects as {@link saved} does, whatever `onStoreError` says. */
  commit(): Promise<void> {
    return this.#byHand('save', () => this.#write(this.#look('in place')));
  }

  /**
   * Saves, then moves to a new id, with the data or `empty`. A session that is not in the store yet just gets another
   * id.
   */
  regenerate(empty: boolean): Promise<void> {
    this.change();
    return this.#byHand('identity', async () => {
      if (this.status === 'stored') this.reply.requireCookie();
      const seen = this.#version;
      if (empty) for (const field of this.fields.names('')) this.fields.remove(field, field);
      if (this.status === 'unavailable') throw this.#unavailable;
      this.#carriesOn = false;
      if (this.status === 'new') this.#identity = undefined;
      if (this.status !== 'stored') return false;
      const changes = this.fields.changes();
      await (this.#changesUser(changes) ? this.#changeUser(changes as FieldChanges) : this.#rotate(changes));
      this.#savedVersion = seen;
      return true;
    });
  }

  /**
   * Saves a login. Where the session ended while this request ran, the user gets a new one, without anything of the
   * old: whoever is told "welcome" is logged in. Nor does one user get what another has left in the session.
   */
  login(userId: string, write: () => void): Promise<void> {
    this.change();
    return this.#byHand('login', async () => {
      if (userId !== this.storedUser || this.runtime.carrier.byValue) this.reply.requireCookie();
      if (this.status === 'unavailable' || this.status === 'gone') this.#begin();
      write();
      await this.#write(this.#look('in place'));
      if (this.status === 'gone') {
        this.#begin();
        write();
        await this.#write(this.#look('in place'));
      }
      return true;
    });
  }

  /** Ends the session in the store, now. What is written afterwards begins another. */
  invalidate(): Promise<void> {
    this.change();
    return this.#byHand('identity', async () => {
      const { status, storedUser } = this;
      const wasStored = status === 'stored' || status === 'unavailable';
      // A session that is nowhere but in its cookie ends with that.
      const { byValue } = this.runtime.carrier;
      if (wasStored && byValue && !byValue.revocations) this.reply.requireCookie();
      const [store, before] = [this.#store, this.#identity];
      const state = [this.#fields, this.#times, this.#touched, this.#carriesOn] as const;
      // At once: what is written while the store ends this one belongs to the next.
      this.#begin();
      try {
        const removed = wasStored && before !== undefined && (await store.destroy(before.id));
        if (removed) this.runtime.emit({ type: 'destroyed', id: before.id, userId: storedUser });
        if (status !== 'new') this.reply.cookie = removed ? 'remove' : 'keep';
      } catch (error) {
        this.status = status;
        this.storedUser = storedUser;
        this.#identity = before;
        [this.#fields, this.#times, this.#touched, this.#carriesOn] = state;
        throw error;
      }
      return true;
    });
  }

  /** Drops what was written and not saved: the handler failed, or is tried again. */
  discard(): void {
    this.#fields?.discard();
    this.#touched = false;
    this.#savedVersion = this.#version;
    this.#tell();
  }

  /** The browser of a session that had to make room is told so with whatever it is answered. */
  #tell(): void {
    if (this.ended === 'elsewhere') this.change().write(`${FLASH}error`, 'flash.error', SIGNED_OUT_ELSEWHERE);
  }

  // The one place that saves. The interceptor, the response's two decisions and a closed connection come here.

  /** The error of a save, a logout or a rotation that failed, until a later one succeeds. */
  get failure(): unknown {
    return this.#failure?.error;
  }

  /**
   * Saves what is unsaved; undefined where nothing is. Waits for what is under way already.
   *
   * Ends: one save, and one more if something was written meanwhile. What is written later still is for the next to
   * ask, and an object that changes for ever is saved as it was. Rejects if the save fails, unless `onStoreError` says
   * that the request goes on without its session.
   */
  saved(look: Look = 'in place'): Promise<void> | undefined {
    if (this.#turns.taken) return this.#save(look);
    try {
      const work = this.#look(look);
      return work && this.#save(look, work);
    } catch {
      return this.#save(look); // a value that cannot be stored: saving says so
    }
  }

  /** The same, for a response that sends its headers next: whatever needs a cookie is done by then, or refused. */
  savedToSend(): Promise<void> | undefined {
    return this.saved()?.finally(() => {
      this.reply.seal();
      return this.#turns.done;
    });
  }

  async #save(look: Look, work?: Work): Promise<void> {
    try {
      await this.#turn('save', () => this.#write(work ?? this.#look(look)));
      if (this.#version !== this.#savedVersion) {
        await this.#turn('save', () => this.#write(this.#look('written')));
      }
    } catch (error) {
      this.#notSaved(error);
    }
  }

  #notSaved(error: unknown): void {
    if (error instanceof SessionValueError || error instanceof SessionTooLargeError) this.discard();
    const isTolerable =
      error instanceof SessionStoreUnavailableException && this.runtime.onStoreError === 'anonymous';
    if (!isTolerable || this.#changesUser(this.fields.changes())) throw error;
    this.status = 'unavailable';
    this.#unavailable = error;
    this.#failure = undefined;
    this.#savedVersion = this.#version;
  }

  /**
   * An operation that a handler asked for. Its promise may be awaited or not: a failure is remembered, and becomes the
   * answer. What cannot be done at all at this point, such as a login after the headers, is refused; of a save that is
   * refused the changes are dropped, since no later one could do it.
   */
  #byHand(kind: 'save' | 'login' | 'identity', step: () => Promise<boolean>): Promise<void> {
    const turn = this.#turn(kind, step);
    turn.catch((error: unknown) => {
      if (!(error instanceof SessionUsageError)) return;
      if (kind === 'save') this.discard();
      // Of an answer under way: a handler that did not await this would not hear of it.
      if (this.reply.begun) this.runtime.logger.warn(error.message);
    });
    return turn;
  }

  /** Rejects what cannot be done, and says so in the log: a handler need not await it. */
  refuse(problem: Error): Promise<never> {
    const refused = Promise.reject(problem);
    refused.catch(() => this.runtime.logger.warn(problem.message));
    return refused;
  }

  /** Store operations run one after the other. */
  #turn(kind: 'save' | 'login' | 'identity', step: () => Promise<boolean>): Promise<void> {
    return this.#turns.take(async () => {
      let isDone: boolean;
      try {
        isDone = await step();
      } catch (error) {
        this.#remember(error, kind !== 'identity');
        throw error;
      }
      // A step that finds nothing to do, because what failed was dropped, makes nothing good.
      if (isDone && (kind !== 'save' || this.#failure?.ofSave)) this.#failure = undefined;
    });
  }

  /** A logout or a rotation that failed is not forgotten because something else fails after it. */
  #remember(error: unknown, ofSave: boolean): void {
    const isRefusal = error instanceof SessionUsageError;
    if (!isRefusal && (!ofSave || this.#failure?.ofSave !== false)) this.#failure = { error, ofSave };
  }

  /** A handler begins: until {@link handlerEnds} it is known that somebody will save. */
  handlerBegins(): void {
    this.#handlers++;
  }

  handlerEnds(): void {
    this.#handlers--;
  }

  /** A handler failed. What others that run beside it have written, as resolvers do, is not dropped with it. */
  handlerFailed(): void {
    if (this.#handlers < 2) this.discard();
  }

  /** The handler is run: for a second time by an interceptor such as `retry()`, so the first try leaves nothing. */
  beginTry(): void {
    if (!this.#wasTried) {
      this.#beforeTries = this.#fields?.unsaved();
    } else {
      this.discard();
      if (this.#beforeTries) this.change().restore(this.#beforeTries);
    }
    this.#wasTried = true;
  }

  /** The connection is closed. What the response's end has not seen is saved now. */
  closed(ended: boolean): void {
    this.saved(ended ? 'written' : 'in place')?.catch((error: unknown) => this.#report(error));
  }

  /** Nobody asks for a save any more once the connection is closed and the handler is done. Says so, once. */
  #reportLoss(): void {
    if (this.#isLossReported) return;
    setImmediate(() => {
      const isSafe = this.#handlers > 0 || this.#turns.taken || this.#version === this.#savedVersion;
      if (isSafe || this.#isLossReported) return;
      this.#isLossReported = true;
      this.runtime.logger.warn(
        'A session was written to after its response had been sent or its client had hung up. Such a change is lost ' +
          'unless you save it: await session.save().',
      );
    }).unref();
  }

  /** The response became this error: what was not saved is not saved later either. */
  failed(error: unknown): void {
    this.discard();
    this.#report(error);
  }

  #report(error: unknown): void {
    if (error instanceof SessionStoreUnavailableException) return; // logged where it happened
    this.runtime.logger.error(error instanceof Error ? (error.stack ?? error.message) : String(error));
  }

  // From here on: what a commit is made of. Each step runs alone, in its turn.

  get #store(): BoundedStore {
    if (this.#byValue) this.runtime.carrier.remind(this.id, () => this.record());
    return this.runtime.store;
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

  /**
   * Finds the work there is to save; undefined if there is none. Reads the clock once. Values that were handed out are compared only where the
   * look is `in place`. Throws `SessionValueError` for a value that cannot be stored.
   */
  #look(look: Look): Work | undefined {
    if (this.status === 'gone') {
      this.#savedVersion = this.#version;
      return undefined;
    }
    const isWritten = this.#version !== this.#savedVersion;
    const mayHaveChanged = isWritten || (look === 'in place' && this.#fields?.holdsObjects);
    const changes = mayHaveChanged ? this.#fields?.changes() : undefined;
    const extension = this.#extension(changes !== undefined);
    const isDue =
      this.status === 'stored' && (extension !== undefined || (this.#outdated && this.reply.canSetCookie));
    const isLost =
      (this.status === 'unavailable' && !this.#changesUser(changes)) ||
      (this.status === 'new' && this.reply.isAbandoned);
    if (isDue || (changes && !isLost)) return { changes, extension };
    this.#savedVersion = this.#version;
    return undefined;
  }

  /** Saves; true if there was something to save. */
  async #write(work: Work | undefined): Promise<boolean> {
    if (!work) return false;
    const seen = this.#version;
    await this.#carryOut(work);
    this.#savedVersion = seen;
    return true;
  }

  async #carryOut({ changes, extension }: Work): Promise<void> {
    if (changes && this.#changesUser(changes)) return this.#changeUser(changes);
    if (this.status === 'new' && changes) return this.#create(changes);
    if (this.status !== 'stored') return;
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

  /**
   * Another user, or nobody, has the session from now on: it gets a new id, and keeps nothing of the user's before.
   * Of a login it is remembered where it came from, and how many others the user may keep.
   */
  async #changeUser(written: FieldChanges): Promise<void> {
    if (this.status === 'gone') return;
    if (this.status === 'unavailable') this.#carryOver();
    if (this.storedUser !== undefined) this.fields.forgetUnwritten();
    const isLogin = writtenUser(written, this.runtime.authKey) !== null;
    for (const [field, value] of loginFields(this.request, this.runtime.users.loginAt())) {
      this.fields.write(field, field, isLogin ? value : undefined);
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
    const userId = writtenUser(changes, this.runtime.authKey) ?? undefined;
    const times = newTimes(this.runtime.lifetime, this.runtime.now());
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
    const changes = { set: changed.set, delete: [...changed.delete, ...this.fields.names(BOUND_TO_ID)] };
    const next = signer.newIdentity();
    const expiresAt = Math.max(
      expiryOf(this.runtime.lifetime, this.times.createdAt, this.runtime.now()),
      this.times.expiresAt,
    );
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
      this.#times = { ...this.times, expiresAt: header.expiresAt };
      this.reply.cookie = 'issue';
      this.#touched = false;
    }
  }

  /** True for a login, and for the end of one. */
  #changesUser(changes: FieldChanges | undefined): boolean {
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
  #carryOver(): void {
    this.status = 'new';
    this.#identity = undefined;
    this.#times = undefined;
  }

  /**
   * A later expiry, when it is time for one. Cookie and record are extended together or not at all: a record that
   * outlives its cookie would never look due again.
   */
  #extension(writing: boolean): Work['extension'] {
    if (this.status !== 'stored') return undefined;
    const now = this.runtime.now();
    const expiresAt = extension(this.runtime.lifetime, this.times, now, writing, this.#touched);
    if (expiresAt === undefined || !this.reply.canSetCookie) return undefined;
    return { expiresAt, lastAccessedAt: now };
  }
}
