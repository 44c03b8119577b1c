import { MemoryStore, type SessionRecord, type SessionStore } from 'nest-session';

type Operation = 'create' | 'load' | 'touch' | 'commit' | 'rotate' | 'destroy';

/** A place where an operation waits: the test learns that it got there, and lets it go on. */
export interface Barrier {
  /** Settles when the operation has arrived. */
  readonly reached: Promise<void>;
  /** Lets it pass. */
  release(): void;
}

interface Hold {
  arrive(): void;
  released: Promise<void>;
}

/** A store that notes every operation, and holds or fails the ones the test names. */
export class HeldStore implements SessionStore {
  readonly calls: Operation[] = [];
  readonly #holds = new Map<Operation, Hold[]>();
  readonly #failures = new Map<Operation, () => Promise<never>>();
  readonly inner: SessionStore;
  readonly ping: SessionStore['ping'];

  constructor(inner: SessionStore | undefined, clock: () => number) {
    this.inner = inner ?? new MemoryStore({ clock });
    if (this.inner.ping) this.ping = () => this.inner.ping?.() as Promise<void>;
  }

  /** The next such operation waits before it reaches the store. */
  hold(operation: Operation): Barrier {
    let arrive = (): void => {};
    let release = (): void => {};
    const reached = new Promise<void>((resolve) => (arrive = resolve));
    const released = new Promise<void>((resolve) => (release = resolve));
    const holds = this.#holds.get(operation) ?? [];
    this.#holds.set(operation, [...holds, { arrive, released }]);
    return { reached, release };
  }

  /** From now on such operations reject. */
  fail(...operations: Operation[]): void {
    for (const operation of operations) {
      this.#failures.set(operation, () => Promise.reject(new Error('connection refused')));
    }
  }

  /** From now on such operations never answer. */
  hang(...operations: Operation[]): void {
    for (const operation of operations) this.#failures.set(operation, () => new Promise(() => {}));
  }

  recover(): void {
    this.#failures.clear();
  }

  /** What was asked of the store since the last time. */
  drain(): Operation[] {
    return this.calls.splice(0);
  }

  create: SessionStore['create'] = (...args) => this.#step('create', () => this.inner.create(...args));
  load: SessionStore['load'] = (...args) => this.#step('load', () => this.inner.load(...args));
  touch: SessionStore['touch'] = (...args) => this.#step('touch', () => this.inner.touch(...args));
  commit: SessionStore['commit'] = (...args) => this.#step('commit', () => this.inner.commit(...args));
  rotate: SessionStore['rotate'] = (...args) => this.#step('rotate', () => this.inner.rotate(...args));
  destroy: SessionStore['destroy'] = (...args) => this.#step('destroy', () => this.inner.destroy(...args));
  listByUser = async (userId: string): Promise<Map<string, SessionRecord>> =>
    (await this.inner.listByUser?.(userId)) ?? new Map();
  count = (): Promise<number> => this.inner.count?.() ?? Promise.resolve(0);
  clear = async (): Promise<void> => this.inner.clear?.();
  sweep = (): Promise<number> => this.inner.sweep?.() ?? Promise.resolve(0);
  close = async (): Promise<void> => this.inner.close?.();

  async #step<T>(operation: Operation, run: () => Promise<T>): Promise<T> {
    this.calls.push(operation);
    const fail = this.#failures.get(operation);
    if (fail) return fail();
    const hold = this.#holds.get(operation)?.shift();
    hold?.arrive();
    await hold?.released;
    return run();
  }
}
