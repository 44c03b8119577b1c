import { createHash } from 'node:crypto';
import type { SessionRecord } from '../stores/session-store.js';
import { loggedInAt } from './session-info.js';
import type { SessionRuntime } from './session-runtime.js';

/** What a browser is told whose session had to make room. */
export const SIGNED_OUT_ELSEWHERE = 'You were signed out because you signed in elsewhere.';

/** The sessions of one user: listed, ended, and kept to a number. */
export class UserSessions {
  readonly #runtime: SessionRuntime;

  constructor(runtime: SessionRuntime) {
    this.#runtime = runtime;
  }

  list(userId: string): Promise<Map<string, SessionRecord>> {
    return this.#runtime.store.listByUser(userId);
  }

  /** Ends all but `except`; how many there were. */
  async end(userId: string, except?: string): Promise<number> {
    const ids = [...(await this.list(userId)).keys()].filter((id) => id !== except);
    const ended = await Promise.all(ids.map((id) => this.#end(id, userId)));
    return ended.filter(Boolean).length;
  }

  /**
   * Ends those that logged in longest ago, until there are as many as a user may have. Every login sees the same
   * order, so that of two at once neither ends what the other keeps.
   */
  async limit(userId: string): Promise<void> {
    const { maxSessionsPerUser, now, store } = this.#runtime;
    if (maxSessionsPerUser === Infinity) return;
    const newestFirst = [...(await this.list(userId))].sort(
      ([idA, a], [idB, b]) => loggedInAt(b) - loggedInAt(a) || (idA < idB ? 1 : -1),
    );
    for (const [id, { expiresAt }] of newestFirst.slice(maxSessionsPerUser)) {
      // The notice comes first, so that there is no moment in which the browser could miss it.
      const times = { createdAt: now(), lastAccessedAt: now(), expiresAt };
      await store.create(noticeFor(id), { ...times, fields: new Map() });
      await this.#end(id, userId);
    }
  }

  /** Whether the session that an unknown id named had to make room. Says so once. */
  async hadToMakeRoom(id: string): Promise<boolean> {
    const { maxSessionsPerUser, store } = this.#runtime;
    return maxSessionsPerUser !== Infinity && (await store.destroy(noticeFor(id)));
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
