import { inspect } from 'node:util';
import {
  SessionStoreUnavailableException,
  SessionStoreUnsupportedError,
  SessionTooLargeError,
} from '../errors.js';
import { Deadlines } from '../util/deadlines.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from './session-store.js';

/** The results that `SessionStore` allows. */
const CREATED = ['created', 'exists'] as const;
const SAVED = ['saved', 'gone'] as const;
const DESTROYED = [true, false] as const;

/**
 * Wraps a store for the core. Every operation ends within `timeout` milliseconds: with a result that `SessionStore`
 * allows, or with `SessionStoreUnavailableException` or `SessionTooLargeError`.
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

  /** True if the store can list the sessions of a user. */
  get lists(): boolean {
    return this.store.listByUser !== undefined;
  }

  listByUser(userId: string): Promise<Map<string, SessionRecord>> {
    const { store } = this;
    if (!store.listByUser) return Promise.reject(new SessionStoreUnsupportedError(store, 'listByUser'));
    return this.#bounded('listByUser', async () => (await store.listByUser?.(userId)) ?? new Map());
  }

  /** Rejects if the store cannot be reached. A store without `ping()` counts as reachable. */
  async ping(): Promise<void> {
    if (this.store.ping) await this.#bounded('ping', async () => this.store.ping?.());
  }

  /** Resolves as soon as no operation is running; one that exceeds its timeout counts as ended. */
  async idle(): Promise<void> {
    if (this.#pending > 0) await new Promise<void>((resolve) => this.#idleListeners.push(resolve));
  }

  /** Runs an operation that may walk the whole store, and therefore has no timeout. */
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
      // The first outcome counts. A later one, after the timeout, is neither used nor logged.
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

  /** Without this check, a store that returns nothing would seem to have saved or removed a session. */
  #unknownAnswer(operation: string, value: unknown, answers: readonly unknown[]): Error {
    const expected = answers.map((one) => JSON.stringify(one)).join(' or ');
    return new Error(
      `${this.store.constructor.name}.${operation}() answered ${inspect(value)}, and the contract asks for ${expected}`,
    );
  }

  #unavailable(operation: string, cause: unknown): Error {
    // The store was reached: it refused a session that is too large, which is the only refusal it may make.
    if (cause instanceof SessionTooLargeError) return cause;
    this.report(operation, cause);
    return new SessionStoreUnavailableException(operation, cause);
  }
}
