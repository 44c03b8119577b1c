import { SerialQueues } from '../util/serial-queue.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from './session-store.js';

/**
 * Two stores as one, while sessions move: a new session goes into the new store; one that is only in the old store is
 * moved when it is next asked for, whatever the operation; what ends, ends in both.
 *
 * What is done to one session is done in turns, so that a move never overlaps with a commit or a logout of this
 * process. Nothing moves before `fromIdle`, when the operations that the old store was still busy with have ended.
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

  /** @param maxWait how long an operation waits for another on the same session, in milliseconds. */
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
    // What both can do, the two together can.
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
      // First the old record, of which a failure can still be told; the new id is all that the browser is told of later.
      if (!this.to.adopt) await this.from.destroy(id);
      if ((await this.to.rotate(id, newId, delta)) === 'gone') return this.from.rotate(id, newId, delta);
      if (this.to.adopt) await this.from.destroy(id);
      return 'saved';
    });
  }

  destroy(id: string): Promise<boolean> {
    return this.#queues.run(id, async () => {
      const [inNew, inOld] = [await this.to.destroy(id), await this.from.destroy(id)];
      return inNew || inOld;
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
      // What is too large for the new store stays where it is.
      return (await run(this.to)) === 'saved' ? 'saved' : run(this.from);
    });
  }

  /** The copy is made before the original goes: whatever fails in between, the session is still there. */
  async #move(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    await this.#fromIdle;
    const record = await this.from.load(id, report);
    if (!record) return undefined;
    if (this.to.adopt) {
      await this.to.adopt(id, record);
      return record;
    }
    // Another process may have moved it already, and changed it since.
    if ((await this.to.create(id, record)) === 'exists') return this.to.load(id);
    if (await this.from.destroy(id)) return record;
    // It ended elsewhere while it was copied.
    await this.to.destroy(id);
    return undefined;
  }

  async #listByUser(userId: string): Promise<Map<string, SessionRecord>> {
    const listed = (await this.from.listByUser?.(userId)) ?? new Map<string, SessionRecord>();
    // What the new store has counts, also where the copy in the old one could not be removed.
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

/** The stores behind a store, the one in use first. */
export function* storesIn(store: SessionStore): Generator<SessionStore> {
  if (!(store instanceof MigratingStore)) return yield store;
  yield* storesIn(store.to);
  yield* storesIn(store.from);
}
