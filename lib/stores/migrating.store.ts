import { CookieStore } from './cookie/cookie.store.js';
import { KeyedTurns } from './keyed-turns.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from './session-store.js';

/**
 * Two stores as one, while sessions move: a new session goes into the new store; one that is only in the old store is
 * moved when it is next asked for, whatever the operation; what ends, ends in both.
 *
 * What is done to one session is done in turns, so that a move never overlaps with a commit or a logout of this
 * process. Nothing moves before `quiet`, when the operations that the old store was still busy with have ended.
 */
export class MigratingStore implements SessionStore {
  readonly #turns = new KeyedTurns();

  readonly to: SessionStore;
  readonly from: SessionStore;
  readonly #quiet: Promise<void>;
  readonly listByUser: SessionStore['listByUser'];
  readonly count: SessionStore['count'];
  readonly clear: SessionStore['clear'];
  readonly sweep: SessionStore['sweep'];

  constructor(to: SessionStore, from: SessionStore, quiet: Promise<void> = Promise.resolve()) {
    this.to = to;
    this.from = from;
    this.#quiet = quiet;
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
    return this.#turns.take(id, async () => (await this.to.load(id, report)) ?? this.#move(id, report));
  }

  touch(id: string, expiresAt: number): Promise<'saved' | 'gone'> {
    return this.#moving(id, () => this.to.touch(id, expiresAt));
  }

  commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    return this.#moving(id, () => this.to.commit(id, delta));
  }

  rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    return this.#moving(id, async () => {
      const outcome = await this.to.rotate(id, newId, delta);
      // A store that keeps its sessions in cookies leaves the old record where it was.
      if (outcome === 'saved') await this.from.destroy(id);
      return outcome;
    });
  }

  destroy(id: string): Promise<boolean> {
    return this.#turns.take(id, async () => {
      const [inNew, inOld] = [await this.to.destroy(id), await this.from.destroy(id)];
      return inNew || inOld;
    });
  }

  async ping(): Promise<void> {
    await this.to.ping?.();
    await this.from.ping?.();
  }

  #moving(id: string, run: () => Promise<'saved' | 'gone'>): Promise<'saved' | 'gone'> {
    return this.#turns.take(id, async () => {
      const outcome = await run();
      return outcome === 'gone' && (await this.#move(id)) ? run() : outcome;
    });
  }

  /** The copy is made before the original goes: whatever fails in between, the session is still there. */
  async #move(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    await this.#quiet;
    const record = await this.from.load(id, report);
    if (!record) return undefined;
    await this.to.create(id, record);
    // The new cookie has yet to reach the browser: until it does, the old one still needs its record.
    if (!(this.to instanceof CookieStore)) await this.from.destroy(id);
    return record;
  }

  async #listByUser(userId: string): Promise<Map<string, SessionRecord>> {
    const inOld = await this.from.listByUser?.(userId);
    const inNew = await this.to.listByUser?.(userId);
    return new Map([...(inOld ?? []), ...(inNew ?? [])]);
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
