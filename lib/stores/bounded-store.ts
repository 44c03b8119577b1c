import { SessionStoreUnavailableException, SessionStoreUnsupportedError } from '../errors.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from './session-store.js';

/**
 * A store as the core uses it: whatever it does, every operation ends within the timeout, in an outcome of the
 * contract or in `SessionStoreUnavailableException`.
 */
export class BoundedStore {
  constructor(
    readonly store: SessionStore,
    private readonly timeout: number,
    private readonly report: (operation: string, cause: unknown) => void,
  ) {}

  create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    return this.#bounded('create', () => this.store.create(id, record));
  }

  load(id: string, report: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    return this.#bounded('load', () => this.store.load(id, report));
  }

  touch(id: string, expiresAt: number): Promise<'saved' | 'gone'> {
    return this.#bounded('touch', () => this.store.touch(id, expiresAt));
  }

  commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    return this.#bounded('commit', () => this.store.commit(id, delta));
  }

  rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    return this.#bounded('rotate', () => this.store.rotate(id, newId, delta));
  }

  destroy(id: string): Promise<boolean> {
    return this.#bounded('destroy', () => this.store.destroy(id));
  }

  /** The administrative powers may walk the whole store, so no timeout bounds them. */
  async power(name: 'count' | 'sweep'): Promise<number>;
  async power(name: 'clear'): Promise<void>;
  async power(name: 'count' | 'sweep' | 'clear'): Promise<number | void> {
    if (!this.store[name]) throw new SessionStoreUnsupportedError(this.store, name);
    try {
      return await this.store[name]();
    } catch (error) {
      throw this.#unavailable(name, error);
    }
  }

  #bounded<T>(operation: string, run: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      let open = true;
      // The first outcome counts. What comes after the timeout comes too late to matter, or to be logged.
      const conclude = (outcome: () => void): void => {
        if (!open) return;
        open = false;
        clearTimeout(timer);
        outcome();
      };
      const fail = (cause: unknown): void => conclude(() => reject(this.#unavailable(operation, cause)));
      const timer = setTimeout(() => fail(new Error(`no answer within ${this.timeout} ms`)), this.timeout);
      try {
        Promise.resolve(run()).then((value) => conclude(() => resolve(value)), fail);
      } catch (cause) {
        fail(cause);
      }
    });
  }

  #unavailable(operation: string, cause: unknown): SessionStoreUnavailableException {
    this.report(operation, cause);
    return new SessionStoreUnavailableException(operation, cause);
  }
}
