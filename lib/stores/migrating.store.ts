import { SerialQueues } from '../util/serial-queue.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from './session-store.js';

/**
 * Moves sessions from one store to another while both are in use. A new session is created in `to`. A session that is
 * only in `from` is moved by the first operation on it. Destroying a session destroys it in both stores.
 *
 * The operations on one session run one after the other, so that within this process a move never overlaps with a
 * commit or a logout. No session moves before `fromIdle` resolves, when the operations running on `from` have ended.
 */
export class MigratingStore implements SessionStore {
  readonly #queues: SerialQueues;

  readonly to: SessionStore;
  readonly from: SessionStore;
  readonly #fromIdle: Promise<void>;
  readonly listByUser: SessionStore['listByUser'];
  readonly count: SessionStore['count'];
  readonly clear: SessionStore['clear'];
  readonly sweep: SessionStore['sweep'];

  /** @param maxWait milliseconds that an operation waits for another on the same session. */
  constructor(
    to: SessionStore,
    from: SessionStore,
    fromIdle: Promise<void> = Promise.resolve(),
    maxWait = Infinity,
  ) {
    this.#queues = new SerialQueues(maxWait);
    this.to = to;
    this.from = from;
    this.#fromIdle = fromIdle;
    // An optional method is there if both stores have it.
    if (to.listByUser && from.listByUser) this.listByUser = (userId) => this.#listByUser(userId);
    if (to.count && from.count) this.count = () => this.#sum('count');
    if (to.sweep && from.sweep) this.sweep = () => this.#sum('sweep');
    if (to.clear && from.clear) this.clear = () => this.#clear();
  }

  create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    return this.to.create(id, record);
  }

  load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    return this.#queues.run(id, async () => (await this.to.load(id, report)) ?? this.#move(id, report));
  }

  touch(id: string, expiresAt: number): Promise<'saved' | 'gone'> {
    return this.#moving(id, (store) => store.touch(id, expiresAt));
  }

  commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    return this.#moving(id, (store) => store.commit(id, delta));
  }

  rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    return this.#queues.run(id, async () => {
      if (!(await this.to.load(id)) && !(await this.#move(id))) return 'gone';
      // The old record first, while a failure can still be reported: afterwards the browser only gets the new id.
      if (!this.to.adopt) await this.from.destroy(id);
      if ((await this.to.rotate(id, newId, delta)) === 'gone') return this.from.rotate(id, newId, delta);
      if (this.to.adopt) await this.from.destroy(id);
      return 'saved';
    });
  }

  destroy(id: string): Promise<boolean> {
    return this.#queues.run(id, async () => {
      // The old one first: another process that is moving the session finds it gone there, and undoes its copy.
      const wasInOld = await this.from.destroy(id);
      return (await this.to.destroy(id)) || wasInOld;
    });
  }

  async ping(): Promise<void> {
    await this.to.ping?.();
    await this.from.ping?.();
  }

  #moving(id: string, run: (store: SessionStore) => Promise<'saved' | 'gone'>): Promise<'saved' | 'gone'> {
    return this.#queues.run(id, async () => {
      if ((await run(this.to)) === 'saved') return 'saved';
      if (!(await this.#move(id))) return 'gone';
      // 'gone' after a move: the session does not fit into `to`, and stayed in `from`.
      return (await run(this.to)) === 'saved' ? 'saved' : run(this.from);
    });
  }

  /** Copies the session before it removes the original, so that no failure in between loses the session. */
  async #move(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    await this.#fromIdle;
    const record = await this.from.load(id, report);
    if (!record) return undefined;
    if (this.to.adopt) {
      await this.to.adopt(id, record);
      return record;
    }
    // Another process may have moved the session already, and changed it since.
    if ((await this.to.create(id, record)) === 'exists') return this.to.load(id);
    if (await this.from.destroy(id)) return record;
    // Another process ended the session during the copy.
    await this.to.destroy(id);
    return undefined;
  }

  async #listByUser(userId: string): Promise<Map<string, SessionRecord>> {
    const listed = (await this.from.listByUser?.(userId)) ?? new Map<string, SessionRecord>();
    // The record in `to` counts, even if the one in `from` could not be removed.
    for (const id of listed.keys()) if (await this.to.load(id)) listed.delete(id);
    for (const [id, record] of (await this.to.listByUser?.(userId)) ?? []) listed.set(id, record);
    return listed;
  }

  async #sum(power: 'count' | 'sweep'): Promise<number> {
    const inOld = await this.from[power]?.();
    return (inOld ?? 0) + ((await this.to[power]?.()) ?? 0);
  }

  async #clear(): Promise<void> {
    await this.from.clear?.();
    await this.to.clear?.();
  }
}

/** The stores that a store consists of: itself, or those that a {@link MigratingStore} combines, newest first. */
export function* storesIn(store: SessionStore): Generator<SessionStore> {
  if (!(store instanceof MigratingStore)) return yield store;
  yield* storesIn(store.to);
  yield* storesIn(store.from);
}
