import {
  SessionStoreUnavailableException,
  SessionTooLargeError,
  SessionUsageError,
  SessionValueError,
} from '../errors.js';
import type { FieldChanges } from './session-fields.js';
import type { SessionResponse } from './session-response.js';
import type { SessionRuntime } from './session-runtime.js';
import { SerialQueue } from '../util/serial-queue.js';

/** Where a save looks for changes: in what was written, or also in the values that were handed out. */
export type Look = 'written' | 'in place';

/** What one save has to do. */
export interface Unsaved {
  readonly changes: FieldChanges | undefined;
  /** Milliseconds since the epoch. */
  readonly extension: { readonly expiresAt: number; readonly lastAccessedAt: number } | undefined;
}

/** An operation that a handler asks for. `identity`: a logout or a new id. */
type Kind = 'save' | 'login' | 'identity';

/** A session, as far as saving it goes. */
interface Saveable {
  readonly runtime: Pick<SessionRuntime, 'logger'>;
  readonly reply: Pick<SessionResponse, 'begun'>;
  /** Finds what is unsaved. `isWritten`: something was written since the last save. Throws `SessionValueError`. */
  unsaved(look: Look, isWritten: boolean): Unsaved | undefined;
  save(work: Unsaved): Promise<void>;
  /** Drops what is unsaved. */
  drop(): void;
  /** The changes as they are now, to put back later. */
  changesSoFar(): FieldChanges | undefined;
  putBack(changes: FieldChanges): void;
  /** True if the request goes on without its session after this error of the store. */
  goesOnWithout(error: unknown): boolean;
}

/**
 * When one request's session is saved, and whether it was.
 *
 * Store operations run one after the other ({@link SerialQueue}). Every change raises a version; a save remembers the version
 * it has saved, so that another round is made only for what is new. The interceptor, the response's two decisions and a
 * closed connection ask for {@link saved}; handlers ask by {@link byHand}.
 */
export class SessionSaving {
  readonly #session: Saveable;
  readonly #queue = new SerialQueue();
  #version = 0;
  /** The version that was last saved, or found to need no save. */
  #savedVersion = 0;
  /** The error of the last save or login, until one succeeds; of a logout or a rotation, until one of those does. */
  #failure: { readonly error: unknown; readonly isOfIdentity: boolean } | undefined;
  /** Handlers under way: what they write is saved when they are done. */
  #handlers = 0;
  #wasTried = false;
  /** The changes of guards, made before the handler was first tried. */
  #beforeTries: FieldChanges | undefined;
  #isLossReported = false;

  constructor(session: Saveable) {
    this.#session = session;
  }

  /** Counts a change: what is written now is work that no save has seen yet. */
  changed(): void {
    this.#version++;
  }

  /** The number of the last change; see {@link savedUpTo}. */
  get version(): number {
    return this.#version;
  }

  /** All changes up to this one are saved. */
  savedUpTo(version: number): void {
    this.#savedVersion = version;
  }

  /** The error of a save, a logout or a rotation that failed, until a later one succeeds. */
  get failure(): unknown {
    return this.#failure?.error;
  }

  /** Settles when the operations under way are done, however they end. */
  get settled(): Promise<void> | undefined {
    return this.#queue.idle;
  }

  /**
   * Saves what is unsaved; undefined where nothing is. Waits for what is under way already.
   *
   * Ends: one save, and one more if something was written meanwhile. What is written later still is for the next to
   * ask, and an object that changes for ever is saved as it was. Rejects if the save fails, unless `onStoreError` says
   * that the request goes on without its session.
   */
  saved(look: Look = 'in place'): Promise<void> | undefined {
    if (this.#queue.isBusy) return this.#save(look);
    try {
      const work = this.#look(look);
      return work && this.#save(look, work);
    } catch {
      return this.#save(look); // a value that cannot be stored: saving says so
    }
  }

  async #save(look: Look, work?: Unsaved): Promise<void> {
    try {
      await this.#turn('save', () => this.#write(work ?? this.#look(look)));
      if (this.#version !== this.#savedVersion) {
        await this.#turn('save', () => this.#write(this.#look('written')));
      }
    } catch (error) {
      if (error instanceof SessionValueError || error instanceof SessionTooLargeError) this.discard();
      if (!this.#session.goesOnWithout(error)) throw error;
      this.#failure = undefined;
      this.#savedVersion = this.#version;
    }
  }

  /** Saves now, within a turn; true if there was something to save. */
  saveNow(): Promise<boolean> {
    return this.#write(this.#look('in place'));
  }

  #look(look: Look): Unsaved | undefined {
    const work = this.#session.unsaved(look, this.#version !== this.#savedVersion);
    if (!work) this.#savedVersion = this.#version;
    return work;
  }

  async #write(work: Unsaved | undefined): Promise<boolean> {
    if (!work) return false;
    const seen = this.#version;
    await this.#session.save(work);
    this.#savedVersion = seen;
    return true;
  }

  /**
   * Runs an operation that a handler asked for, in its turn. Its promise may be awaited or not: a failure is remembered,
   * and becomes the answer. What cannot be done at all at this point, such as a login after the headers, is refused; of
   * a save that is refused the changes are dropped, since no later one could do it.
   *
   * @param step true if it had something to do
   */
  byHand(kind: Kind, step: () => Promise<boolean>): Promise<void> {
    const turn = this.#turn(kind, step);
    turn.catch((error: unknown) => {
      if (!(error instanceof SessionUsageError)) return;
      if (kind === 'save') this.discard();
      // Of an answer under way: a handler that did not await this would not hear of it.
      if (this.#session.reply.begun) this.#session.runtime.logger.warn(error.message);
    });
    return turn;
  }

  /** Rejects what cannot be done, and says so in the log: a handler need not await it. */
  refuse(problem: Error): Promise<never> {
    const refused = Promise.reject(problem);
    refused.catch(() => this.#session.runtime.logger.warn(problem.message));
    return refused;
  }

  #turn(kind: Kind, step: () => Promise<boolean>): Promise<void> {
    return this.#queue.run(async () => {
      let isDone: boolean;
      try {
        isDone = await step();
      } catch (error) {
        this.#remember(error, kind === 'identity');
        throw error;
      }
      // A step that finds nothing to do, because what failed was dropped, makes nothing good.
      if (isDone && (kind !== 'save' || !this.#failure?.isOfIdentity)) this.#failure = undefined;
    });
  }

  /** A logout or a rotation that failed is not forgotten because something else fails after it. */
  #remember(error: unknown, isOfIdentity: boolean): void {
    const isRefusal = error instanceof SessionUsageError;
    if (!isRefusal && (isOfIdentity || !this.#failure?.isOfIdentity)) this.#failure = { error, isOfIdentity };
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
      this.#beforeTries = this.#session.changesSoFar();
    } else {
      this.discard();
      if (this.#beforeTries) this.#session.putBack(this.#beforeTries);
    }
    this.#wasTried = true;
  }

  /** Drops what was written and not saved: the handler failed, or is tried again. */
  discard(): void {
    this.#savedVersion = this.#version;
    this.#session.drop();
  }

  /** The connection is closed. What the response's end has not seen is saved now. */
  closed(ended: boolean): void {
    this.saved(ended ? 'written' : 'in place')?.catch((error: unknown) => this.#report(error));
  }

  /** The response became this error: what was not saved is not saved later either. */
  failed(error: unknown): void {
    this.discard();
    this.#report(error);
  }

  /** Nobody asks for a save any more once the connection is closed and the handler is done. Says so, once. */
  reportLoss(): void {
    if (this.#isLossReported) return;
    setImmediate(() => {
      const isSafe = this.#handlers > 0 || this.#queue.isBusy || this.#version === this.#savedVersion;
      if (isSafe || this.#isLossReported) return;
      this.#isLossReported = true;
      this.#session.runtime.logger.warn(
        'A session was written to after its response had been sent or its client had hung up. Such a change is lost ' +
          'unless you save it: await session.save().',
      );
    }).unref();
  }

  #report(error: unknown): void {
    if (error instanceof SessionStoreUnavailableException) return; // logged where it happened
    this.#session.runtime.logger.error(
      error instanceof Error ? (error.stack ?? error.message) : String(error),
    );
  }
}
