import { Logger } from '@nestjs/common';
import { mergedRecord } from '../merged-record.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from '../session-store.js';
import { documentOf, expiryOf } from './session-document.js';
import { SessionDocuments } from './session-documents.js';
import { SolidbClient } from './solidb-client.js';
import { SolidbCollection } from './solidb-collection.js';
import {
  type ResolvedSolidbOptions,
  resolveSolidbOptions,
  type SolidbStoreOptions,
} from './solidb-options.js';
import { SolidbCapabilities } from './solidb-capabilities.js';
import { Deadline } from './deadline.js';
import { everyMilliseconds } from '../../util/background-timer.js';

/** The deadline of a query over all sessions, in milliseconds. The server ends a query after 30 s. */
const QUERY_TIME = 35_000;

/** The number of documents after which older servers end an index range without an error. */
const QUERY_RANGE = 1000;

/** The largest number of searches of one listing, while sessions move to other ids. */
const MOST_ROUNDS = 10;

/** The number of documents that a listing reads at the same time. */
const READ_AT_ONCE = 10;

/** Milliseconds for which the background sweep keeps expired sessions, because other clocks may be behind. */
const GRACE = 60_000;

/** Both comparisons spare foreign documents: in SoliDB, null is less than all numbers, and text equals them. */
const EXPIRED = 'd.expires_at >= 0 AND d.expires_at < @end';

const LIVE = 'd.expires_at > @now';

/**
 * Keeps sessions in a SoliDB database, over HTTP: for servers of several processes or machines.
 *
 * Each session is a document under its id ({@link SessionDocument}). A write depends on the revision that it was merged
 * with (`If-Match`), and never creates a document. If another write came first, it is merged again. A session ends by
 * such a write too, so two ends cannot both succeed; its document is deleted afterwards. Within a process, the writes
 * of one session run one after the other, so conflicts only occur between processes. Servers before 1.2 ignore
 * `If-Match`: there, writes of different processes can overwrite each other.
 */
export class SolidbStore implements SessionStore {
  readonly #options: ResolvedSolidbOptions;
  readonly #collection: SolidbCollection;
  readonly #capabilities: SolidbCapabilities;
  readonly #sessions: SessionDocuments;
  readonly #logger = new Logger('SolidbStore');
  #sweeper: NodeJS.Timeout | undefined;
  /** The running sweep: at most one, for which {@link close} waits. */
  #sweeping: Promise<void> | undefined;

  constructor(options: SolidbStoreOptions) {
    this.#options = resolveSolidbOptions(options);
    this.#collection = new SolidbCollection(new SolidbClient(this.#options), this.#options);
    this.#capabilities = new SolidbCapabilities(this.#collection, this.#options);
    this.#sessions = new SessionDocuments(this.#collection, this.#capabilities, this.#options);
  }

  async create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    this.#startSweeping();
    return (await this.#sessions.create(id, record, this.#deadline())) ? 'created' : 'exists';
  }

  async load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    const deadline = this.#deadline();
    const session = await this.#sessions.read(id, deadline);
    if (typeof session !== 'string') return session;
    // Only the process that ends the session reports it. The session may have been extended meanwhile.
    const why = session === 'ended' ? undefined : await this.#sessions.endDead(id, deadline);
    if (why) report?.(why);
    return undefined;
  }

  async touch(id: string, expiresAt: number): Promise<'saved' | 'gone'> {
    const touched = await this.#sessions.write(id, this.#deadline(), (record) => ({
      record: { ...record, expiresAt },
      fields: expiryOf(expiresAt),
    }));
    return touched ? 'saved' : 'gone';
  }

  async commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const saved = await this.#sessions.write(id, this.#deadline(), (current) => {
      const record = mergedRecord(current, delta);
      return { record, fields: documentOf(record) };
    });
    return saved ? 'saved' : 'gone';
  }

  async rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const moved = await this.#sessions.move(id, newId, this.#deadline(), (record) =>
      mergedRecord(record, delta),
    );
    return moved ? 'saved' : 'gone';
  }

  destroy(id: string): Promise<boolean> {
    return this.#sessions.write(id, this.#deadline(), () => 'ended');
  }

  async listByUser(userId: string): Promise<Map<string, SessionRecord>> {
    const deadline = this.#deadline();
    const bindVars = { user: userId, now: this.#now };
    const sessions = new Map<string, SessionRecord>();
    const seen = new Set<string>();
    // Searches again if a session was gone: it may have moved, and its new document was written before. Ends when none
    // was gone, or after MOST_ROUNDS: each round only finds sessions that moved during the round before.
    for (let round = 0, missed = true; missed && round < MOST_ROUNDS; round++) {
      missed = false;
      const found = await this.#collection.keys(`d.user_id == @user AND ${LIVE}`, bindVars, deadline);
      const ids = found.filter((id) => !seen.has(id) && seen.add(id));
      // A query may use a cache or an index that is behind, so each document is read under its key.
      for (let first = 0; first < ids.length; first += READ_AT_ONCE) {
        const some = ids.slice(first, first + READ_AT_ONCE);
        const read = await Promise.all(some.map((id) => this.#sessions.read(id, deadline)));
        for (const [index, session] of read.entries()) {
          if (typeof session === 'object' && session.userId === userId) sessions.set(some[index], session);
          else missed = true;
        }
      }
    }
    return sessions;
  }

  count(): Promise<number> {
    return this.#collection.count(LIVE, { now: this.#now }, new Deadline(QUERY_TIME));
  }

  clear(): Promise<void> {
    return this.#collection.truncate(new Deadline(QUERY_TIME));
  }

  sweep(): Promise<number> {
    return this.#removeExpired(this.#now);
  }

  async ping(): Promise<void> {
    // No session has this key. An answer shows that the server is reachable and accepts the credentials.
    await this.#collection.get('ping', this.#deadline());
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
    // Ends: each request of the sweep has a deadline.
    await this.#sweeping;
  }

  get #now(): number {
    return this.#options.clock();
  }

  #deadline(): Deadline {
    return new Deadline(this.#options.timeout);
  }

  async #removeExpired(now: number): Promise<number> {
    const end = now + 1;
    let removed = 0;
    for (let interrupted = 0; interrupted < 3;) {
      const count = await this.#collection.removeWhere(EXPIRED, { end }, new Deadline(QUERY_TIME));
      if (count === undefined) interrupted++;
      else removed += count;
      if (count !== undefined && count < QUERY_RANGE) break;
    }
    return removed;
  }

  #startSweeping(): void {
    const { sweepInterval } = this.#options;
    this.#sweeper ??= everyMilliseconds(sweepInterval, () => {
      this.#sweeping ??= this.#sweepQuietly().finally(() => (this.#sweeping = undefined));
    });
  }

  async #sweepQuietly(): Promise<void> {
    try {
      const { expires } = await this.#capabilities.get(this.#deadline());
      if (!expires) await this.#removeExpired(this.#now - GRACE);
    } catch (error) {
      this.#logger.warn(
        `Expired sessions were not collected; the next sweep tries again: ${(error as Error).message}`,
      );
    }
  }
}
