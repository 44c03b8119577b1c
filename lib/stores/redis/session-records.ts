import type { SessionDelta, SessionRecord } from '../session-store.js';
import type { Indexed } from './session-hash.js';

/**
 * How records are changed: by scripts, or by plain commands under a lock. Most methods take the key of a record and the
 * current time, and answer what the index must know, or undefined where there is no live session.
 */
export interface SessionRecords {
  /** Whether there is SCAN, which lists keys. */
  readonly listsKeys: boolean;
  create(key: string, record: SessionRecord, now: number): Promise<boolean>;
  commit(key: string, delta: SessionDelta, now: number): Promise<Indexed | undefined>;
  /**
   * Moves a session to another id, and in the indexes too, in the same step. Where one step cannot do both, the indexes
   * are moved by `reindex`, after the record, and until then what lies under the old key says which the new id is.
   * Whether there was a live session.
   */
  rotate(
    id: string,
    newId: string,
    delta: SessionDelta,
    now: number,
    reindex: (before: Indexed) => Promise<void>,
  ): Promise<boolean>;
  destroy(key: string, now: number): Promise<Indexed | undefined>;
  /** Removes what is no live session, unless its expiry is another by now; whether it did. */
  discard(key: string, expirySeen: string | undefined): Promise<boolean>;
  /** Adds a session to an index, until that instant. */
  index(key: string, id: string, until: number, now: number): Promise<unknown>;
}

/** How long a key outlives what it holds. It only collects garbage, so it may be generous with clocks. */
export const GRACE = 120_000;

/**
 * The instant until which an index knows a session: for twice as long as it has to live, and longer than its key. So
 * one that was extended, while the second half of that, in the index, was lost, is found until it is extended again.
 */
export function indexedUntil(expiresAt: number, now: number): number {
  return expiresAt + Math.max(expiresAt - now, GRACE);
}

/**
 * A key's time to live, in milliseconds. It is relative, so that neither a server whose clock differs nor a clock that
 * a test has set matters.
 */
export function timeToLive(until: number, now: number): number {
  return Math.max(1, Math.ceil(until - now + GRACE));
}
