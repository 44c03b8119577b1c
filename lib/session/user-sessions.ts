import { SessionStoreUnsupportedError } from '../errors.js';
import type { BoundedStore } from '../stores/bounded-store.js';
import type { SessionRecord } from '../stores/session-store.js';
import { sha256 } from '../util/sha256.js';
import { loggedInAt } from './login.js';
import type { SessionEvent } from './session-events.js';

/** What a browser is told whose session had to make room. */
export const SIGNED_OUT_ELSEWHERE = 'You were signed out because you signed in elsewhere.';

/** The sessions of a user are looked through so often at most, while some of them move to other ids. */
const MOST_ROUNDS = 10;

/** How long a process that dies while it ends a user's sessions keeps them from moving: milliseconds. */
const ENDING = 60_000;

/** The field that names the session which stays. */
const EXCEPT = 'except';

/** What the sessions of a user need of the application; see `SessionRuntime`. */
interface Application {
  readonly store: BoundedStore;
  readonly now: () => number;
  readonly maxSessionsPerUser: number;
  emit(event: SessionEvent): void;
}

/** The sessions of one user: listed, ended, and kept to a number. */
export class UserSessions {
  readonly #runtime: Application;
  #lastLogin = 0;

  constructor(runtime: Application) {
    this.#runtime = runtime;
  }

  list(userId: string): Promise<Map<string, SessionRecord>> {
    return this.#runtime.store.listByUser(userId);
  }

  /**
   * Ends all but `except`; how many there were.
   *
   * One that was gone before it could be ended may have moved to another id, so this looks again. While it does, a
   * record in the store says so, and whoever moves a session of the user's meanwhile ends it: see {@link isEnding}.
   * So a session that was there at the beginning moves once more at most, however fast its requests follow each other
   * and however slow the store is from here. The round after that finds nothing to miss.
   */
  async end(userId: string, except?: string): Promise<number> {
    const { now, store } = this.#runtime;
    if (!store.lists) throw new SessionStoreUnsupportedError(store.store, 'listByUser');
    const note = endingNoteFor(userId);
    let count = 0;
    try {
      // Ends when a round has missed nothing. What can still be missed after MOST_ROUNDS has logged in since.
      for (let round = 0, missed = true; missed && round < MOST_ROUNDS; round++) {
        // In each round, since another that ends the same user's sessions may have removed it.
        const times = { createdAt: now(), lastAccessedAt: now(), expiresAt: now() + ENDING };
        await store.create(note, { ...times, fields: new Map([[EXCEPT, except ?? '']]) });
        const ids = [...(await this.list(userId)).keys()].filter((id) => id !== except);
        const ended = await Promise.all(ids.map((id) => this.#end(id, userId)));
        count += ended.filter(Boolean).length;
        missed = ended.includes(false);
      }
    } finally {
      await store.destroy(note).catch(() => {}); // it ends by itself
    }
    return count;
  }

  /** Whether the sessions of a user are being ended right now, and with them the one that was `id` until now. */
  async isEnding(userId: string, id: string): Promise<boolean> {
    const { store } = this.#runtime;
    if (!store.lists) return false;
    const note = await store.load(endingNoteFor(userId), () => {});
    return note !== undefined && note.fields.get(EXCEPT) !== id;
  }

  /**
   * Ends those that logged in longest ago, until there are as many as a user may have. Every login sees the same
   * order, so that of two at once neither ends what the other keeps.
   *
   * Looks again when a session was gone before it could be ended: it may have moved to another id. Ends, since each
   * round tries an id that none has tried before, and after {@link MOST_ROUNDS} at the latest.
   */
  async limit(userId: string): Promise<void> {
    const { maxSessionsPerUser } = this.#runtime;
    if (maxSessionsPerUser === Infinity) return;
    const tried = new Set<string>();
    for (let round = 0; round < MOST_ROUNDS; round++) {
      const newestFirst = [...(await this.list(userId))].sort(
        ([idA, a], [idB, b]) => loggedInAt(b) - loggedInAt(a) || (idA < idB ? 1 : -1),
      );
      const tooMany = newestFirst.slice(maxSessionsPerUser).filter(([id]) => !tried.has(id));
      let missed = false;
      for (const [id, { expiresAt }] of tooMany) {
        tried.add(id);
        if (!(await this.#endWithNotice(id, userId, expiresAt))) missed = true;
      }
      if (!missed) return;
    }
  }

  /** The instant of a login: no two are the same, whatever the clock says, or chance would decide which is older. */
  loginAt(): number {
    return (this.#lastLogin = Math.max(this.#runtime.now(), this.#lastLogin + 1));
  }

  /** Whether the session that an unknown id named had to make room. Says so once. */
  async hadToMakeRoom(id: string): Promise<boolean> {
    const { maxSessionsPerUser, store } = this.#runtime;
    return maxSessionsPerUser !== Infinity && (await store.destroy(noticeFor(id)));
  }

  /** The notice comes first, so that there is no moment in which the browser could miss it. */
  async #endWithNotice(id: string, userId: string, expiresAt: number): Promise<boolean> {
    const { now, store } = this.#runtime;
    const times = { createdAt: now(), lastAccessedAt: now(), expiresAt };
    await store.create(noticeFor(id), { ...times, fields: new Map() });
    if (await this.#end(id, userId)) return true;
    // It has logged out meanwhile, or moved to another id: nothing to tell.
    await store.destroy(noticeFor(id));
    return false;
  }

  async #end(id: string, userId: string): Promise<boolean> {
    const removed = await this.#runtime.store.destroy(id);
    if (removed) this.#runtime.emit({ type: 'destroyed', id, userId });
    return removed;
  }
}

/** Where the notice for a session that is gone is kept: no cookie's secret leads there. */
function noticeFor(id: string): string {
  return sha256(`signed in displaced: ${id}`);
}

/** Where it is noted that the sessions of a user are being ended: no cookie's secret leads there. */
function endingNoteFor(userId: string): string {
  return sha256(`sessions are being ended: ${userId}`);
}
