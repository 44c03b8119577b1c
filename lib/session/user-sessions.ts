import { createHash } from 'node:crypto';
import type { SessionRecord } from '../stores/session-store.js';
import { loggedInAt } from './login.js';
import type { SessionRuntime } from './session-runtime.js';

/** What a browser is told whose session had to make room. */
export const SIGNED_OUT_ELSEWHERE = 'You were signed out because you signed in elsewhere.';

/** The sessions of a user are looked through so often at most, while some of them move to other ids. */
const MOST_ROUNDS = 10;

/** The sessions of one user: listed, ended, and kept to a number. */
export class UserSessions {
  readonly #runtime: SessionRuntime;
  #lastLogin = 0;

  constructor(runtime: SessionRuntime) {
    this.#runtime = runtime;
  }

  list(userId: string): Promise<Map<string, SessionRecord>> {
    return this.#runtime.store.listByUser(userId);
  }

  /** Ends all but `except`; how many there were. */
  async end(userId: string, except?: string): Promise<number> {
    const seen = new Set([except]);
    let count = 0;
    // One that was not found under its id any more may have moved to another: look again, until there is nothing new.
    for (let missed = true; missed;) {
      const ids = [...(await this.list(userId)).keys()].filter((id) => !seen.has(id));
      const ended = await Promise.all(ids.map((id) => this.#end(id, userId)));
      for (const id of ids) seen.add(id);
      count += ended.filter(Boolean).length;
      missed = ended.includes(false);
    }
    return count;
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
  return createHash('sha256').update(`signed in elsewhere: ${id}`).digest('hex');
}
