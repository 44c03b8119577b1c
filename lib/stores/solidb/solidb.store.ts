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

/** A query may walk all sessions; the server gives it 30 s. In milliseconds. */
const QUERY_TIME = 35_000;

/** Documents after which older servers end an index range without saying so. */
const QUERY_RANGE = 1000;

/** So often a listing looks again for sessions that have moved to other ids. */
const MOST_ROUNDS = 10;

/** How many documents a listing reads at the same time. */
const READ_AT_ONCE = 10;

/** The background leaves what has ended this recently, in milliseconds: other machines' clocks may be behind. */
const GRACE = 60_000;

/** Written so as to spare what is not of this store: to SoliDB null comes before all numbers, and text equals them. */
const EXPIRED = 'd.expires_at >= 0 AND d.expires_at < @end';

const LIVE = 'd.expires_at > @now';

// As in MemoryStore: a timer made while a request is served would hold that request's AsyncLocalStorage for good.
/**
 * Keeps sessions in a SoliDB database, over HTTP: for servers of several processes or machines.
 *
 * One document per session, under its id ({@link SessionDocument}). A write depends on the revision that it was merged
 * from (`If-Match`) and never creates; when another came first it is merged again. A session ends by such a write too,
 * of which two cannot both succeed, and its document is deleted after that. Within a process the writes of one session
 * take turns, which leaves conflicts to different processes. On a server before 1.2, which ignores `If-Match`, turns
 * are all there is.
 */
export class SolidbStore implements SessionStore {
  readonly #options: ResolvedSolidbOptions;
  readonly #collection: SolidbCollection;
  readonly #capabilities: SolidbCapabilities;
  readonly #sessions: SessionDocuments;
  readonly #logger = new Logger('SolidbStore');
  #sweeper: NodeJS.Timeout | undefined;
  /** The sweep that is under way: one at a time, and none is left behind by {@link close}. */
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
    // Whoever ends it reports it, and it may have been extended in the meantime.
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
    // Again, if one was gone: it may have moved, and was written under its new id before. Ends when all were there, or
    // after MOST_ROUNDS, of which each is about what moved during the one before.
    for (let round = 0, missed = true; missed && round < MOST_ROUNDS; round++) {
      missed = false;
      const found = await this.#collection.keys(`d.user_id == @user AND ${LIVE}`, bindVars, deadline);
      const ids = found.filter((id) => !seen.has(id) && seen.add(id));
      // A query may answer from a cache or an index that is behind; a document under its key is not.
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
    // A key that no session has: the answer says that the server is there and takes the credentials.
    await this.#collection.get('ping', this.#deadline());
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
    // Ends: each of its requests does, by the timeout.
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
        `Expired sessions were not collected, which is tried again later: ${(error as Error).message}`,
      );
    }
  }
}
