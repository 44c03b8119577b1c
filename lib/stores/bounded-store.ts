import { inspect } from 'node:util';
import {
  SessionStoreUnavailableException,
  SessionStoreUnsupportedError,
  SessionTooLargeError,
} from '../errors.js';
import { Deadlines } from '../util/deadlines.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from './session-store.js';

/** The answers of a store that keeps the contract; see `SessionStore`. */
const CREATED = ['created', 'exists'] as const;
const SAVED = ['saved', 'gone'] as const;
const DESTROYED = [true, false] as const;

/**
 * A store as the core uses it: whatever it does, every operation ends within the timeout, in an outcome of the
 * contract or in `SessionStoreUnavailableException`.
 */
export class BoundedStore {
  readonly #deadlines: Deadlines;
  #pending = 0;
  readonly #idleListeners: (() => void)[] = [];

  constructor(
    readonly store: SessionStore,
    private readonly timeout: number,
    private readonly report: (operation: string, cause: unknown) => void,
  ) {
    this.#deadlines = new Deadlines(timeout);
  }

  create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    return this.#bounded('create', () => this.store.create(id, record), CREATED);
  }

  load(id: string, report: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    return this.#bounded('load', () => this.store.load(id, report));
  }

  touch(id: string, expiresAt: number): Promise<'saved' | 'gone'> {
    return this.#bounded('touch', () => this.store.touch(id, expiresAt), SAVED);
  }

  commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    return this.#bounded('commit', () => this.store.commit(id, delta), SAVED);
  }

  rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    return this.#bounded('rotate', () => this.store.rotate(id, newId, delta), SAVED);
  }

  destroy(id: string): Promise<boolean> {
    return this.#bounded('destroy', () => this.store.destroy(id), DESTROYED);
  }

  /** Whether it can list the sessions of a user. */
  get lists(): boolean {
    return this.store.listByUser !== undefined;
  }

  listByUser(userId: string): Promise<Map<string, SessionRecord>> {
    const { store } = this;
    if (!store.listByUser) return Promise.reject(new SessionStoreUnsupportedError(store, 'listByUser'));
    return this.#bounded('listByUser', async () => (await store.listByUser?.(userId)) ?? new Map());
  }

  /** Rejects if the store cannot be reached; one that cannot be asked is there. */
  async ping(): Promise<void> {
    if (this.store.ping) await this.#bounded('ping', async () => this.store.ping?.());
  }

  /** Settles when what is under way has ended, or should have. */
  async idle(): Promise<void> {
    if (this.#pending > 0) await new Promise<void>((resolve) => this.#idleListeners.push(resolve));
  }

  /** The administrative powers may walk the whole store, so no timeout bounds them. */
  async administer(name: 'count' | 'sweep'): Promise<number>;
  async administer(name: 'clear'): Promise<void>;
  async administer(name: 'count' | 'sweep' | 'clear'): Promise<number | void> {
    if (!this.store[name]) throw new SessionStoreUnsupportedError(this.store, name);
    try {
      return await this.store[name]();
    } catch (error) {
      throw this.#unavailable(name, error);
    }
  }

  #bounded<T>(operation: string, run: () => Promise<T>, answers?: readonly unknown[]): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#pending++;
      // The first outcome counts. What comes after the timeout comes too late to matter, or to be logged.
      const conclude = (): boolean => {
        if (!this.#deadlines.delete(deadline)) return false;
        if (--this.#pending === 0) for (const settle of this.#idleListeners.splice(0)) settle();
        return true;
      };
      const fail = (cause: unknown): void => {
        if (conclude()) reject(this.#unavailable(operation, cause));
      };
      const deadline = this.#deadlines.add(() => fail(new Error(`no answer within ${this.timeout} ms`)));
      try {
        Promise.resolve(run()).then((value) => {
          if (answers && !answers.includes(value)) fail(this.#unknownAnswer(operation, value, answers));
          else if (conclude()) resolve(value);
        }, fail);
      } catch (cause) {
        fail(cause);
      }
    });
  }

  /** A store that forgets to answer would otherwise seem to have saved, or to hold what it has removed. */
  #unknownAnswer(operation: string, value: unknown, answers: readonly unknown[]): Error {
    const expected = answers.map((one) => JSON.stringify(one)).join(' or ');
    return new Error(
      `${this.store.constructor.name}.${operation}() answered ${inspect(value)}, and the contract asks for ${expected}`,
    );
  }

  #unavailable(operation: string, cause: unknown): Error {
    // The one thing a store may refuse: it was reached, and has no room for so large a session.
    if (cause instanceof SessionTooLargeError) return cause;
    this.report(operation, cause);
    return new SessionStoreUnavailableException(operation, cause);
  }
}
