import { SerialQueues } from '../../util/serial-queue.js';
import { BoundedCache } from '../../util/bounded-cache.js';
import type { DeadRecord, SessionRecord } from '../session-store.js';
import { documentOf, ENDED, type SessionDocument, sessionIn } from './session-document.js';
import type { SolidbCollection, Written } from './solidb-collection.js';
import type { ResolvedSolidbOptions } from './solidb-options.js';
import type { SolidbCapabilities } from './solidb-capabilities.js';
import { Deadline } from './deadline.js';

/** The state of a document when it was read or written. */
interface Seen extends Written {
  readonly session: SessionRecord | DeadRecord | 'ended';
}

/** The result of a change: the new record and the fields to send; or `ended`. */
export type Change = { readonly record: SessionRecord; readonly fields: Partial<SessionDocument> } | 'ended';

/** The largest number of attempts at a change. Each repeats because of another change, so more mean a fault. */
const MOST_ATTEMPTS = 50;

const AGAIN = Symbol('again');

/**
 * The sessions of a collection. A change reads the document, writes it on condition of its revision, and starts again
 * if the revision has changed. Within this process, the changes of one session run one after the other.
 */
export class SessionDocuments {
  readonly #queues = new SerialQueues();
  // A request mostly writes to the session that it has read. The revision guards the write, so it need not read again.
  readonly #seen = new BoundedCache<Seen>(500, 5000);

  constructor(
    private readonly collection: SolidbCollection,
    private readonly capabilities: SolidbCapabilities,
    private readonly options: ResolvedSolidbOptions,
  ) {}

  /** Returns a copy of the record, or the reason why there is none; undefined if there is no document. */
  async read(id: string, deadline: Deadline): Promise<Seen['session'] | undefined> {
    const session = (await this.#look(id, deadline))?.session;
    return typeof session === 'object' ? { ...session, fields: new Map(session.fields) } : session;
  }

  /** Stores a new session. Returns false if there is a live one. */
  create(id: string, record: SessionRecord, deadline: Deadline): Promise<boolean> {
    const document = documentOf(record);
    return this.#inTurn(id, deadline, async (compareAndSet) => {
      // Servers without compare-and-set overwrite on insertion, so read first.
      const before = compareAndSet ? undefined : await this.#look(id, deadline);
      const inserted = before ? 'taken' : await this.collection.insert(id, document, deadline);
      if (typeof inserted === 'object') return true;
      if (inserted === 'no collection') {
        this.capabilities.forget();
        return AGAIN;
      }
      const there = before ?? (await this.#look(id, deadline));
      if (!there) return AGAIN;
      if (typeof there.session === 'object') return false;
      const written = await this.collection.update(id, there.revision, document, deadline);
      return typeof written === 'object' || AGAIN;
    });
  }

  /** Changes a live session; false if there is none. `change` is called again if another change came first. */
  write(
    id: string,
    deadline: Deadline,
    change: (record: SessionRecord) => Change | Promise<Change>,
  ): Promise<boolean> {
    return this.#inTurn(id, deadline, async (compareAndSet) => {
      const seen = (compareAndSet && this.#cached(id)) || (await this.#look(id, deadline));
      if (typeof seen?.session !== 'object') return false;
      const made = await change(seen.session);
      const fields = made === 'ended' ? ENDED : made.fields;
      const written = await this.collection.update(id, seen.revision, fields, deadline);
      this.#seen.delete(id);
      if (written === 'changed') return AGAIN;
      if (written === 'missing') return false;
      if (made === 'ended') await this.#delete(id, deadline);
      else this.#cache(id, { revision: written.revision, session: made.record });
      return true;
    });
  }

  /**
   * Moves a live session to a new id. Returns false if there is none.
   *
   * It writes the new document first, and then ends the old one on condition of its revision. So of two parallel
   * moves, or of a move and a destruction or write, one succeeds. The other starts again: it finds the session ended, or
   * copies the changed record. If the process or the server fails in between:
   * - before the old document has ended, the old session lives on unchanged. The new document is garbage: no browser has
   *   its secret. It is deleted if possible, and otherwise listed until it expires.
   * - after that, the new document is complete. The old one is empty, and a sweep removes it.
   */
  async move(
    id: string,
    newId: string,
    deadline: Deadline,
    change: (record: SessionRecord) => SessionRecord,
  ): Promise<boolean> {
    let copy: Written | undefined;
    let begun = false;
    try {
      const moved = await this.write(id, deadline, async (record) => {
        begun = true;
        copy = await this.#copy(newId, copy, documentOf(change(record)), deadline);
        return 'ended' as const;
      });
      if (begun && !moved) await this.#delete(newId, deadline);
      return moved;
    } catch (error) {
      if (begun) void this.#delete(newId, new Deadline(this.options.timeout));
      throw error;
    }
  }

  /** Ends an expired or undecodable session. Returns the reason; undefined if it has ended or was extended. */
  endDead(id: string, deadline: Deadline): Promise<DeadRecord | undefined> {
    return this.#inTurn(id, deadline, async () => {
      const seen = await this.#look(id, deadline);
      if (!seen || typeof seen.session === 'object' || seen.session === 'ended') return undefined;
      const written = await this.collection.update(id, seen.revision, ENDED, deadline);
      if (written === 'changed') return AGAIN;
      if (written === 'missing') return undefined;
      await this.#delete(id, deadline);
      return seen.session;
    });
  }

  #inTurn<T>(
    id: string,
    deadline: Deadline,
    attempt: (compareAndSet: boolean) => Promise<T | typeof AGAIN>,
  ): Promise<T> {
    return this.#queues.run(id, async () => {
      for (let attempts = 0; attempts < MOST_ATTEMPTS; attempts++) {
        const { compareAndSet } = await this.capabilities.get(deadline);
        const outcome = await attempt(compareAndSet);
        if (outcome !== AGAIN) return outcome;
      }
      throw new Error(`Others changed session ${id} ${MOST_ATTEMPTS} times in a row.`);
    });
  }

  async #look(id: string, deadline: Deadline): Promise<Seen | undefined> {
    const found = await this.collection.get(id, deadline);
    const seen = found && { revision: found.revision, session: sessionIn(found.body, this.options.clock()) };
    if (typeof seen?.session === 'object') this.#cache(id, seen);
    else this.#seen.delete(id);
    return seen;
  }

  #cache(id: string, seen: Seen): void {
    this.#seen.set(id, seen, this.options.clock());
  }

  #cached(id: string): Seen | undefined {
    const now = this.options.clock();
    const seen = this.#seen.get(id, now);
    return typeof seen?.session === 'object' && seen.session.expiresAt > now ? seen : undefined;
  }

  async #copy(id: string, before: Written | undefined, document: SessionDocument, deadline: Deadline) {
    const written = before
      ? await this.collection.update(id, before.revision, document, deadline)
      : await this.collection.insert(id, document, deadline);
    if (written === 'taken' || written === 'changed') throw new Error(`Session id ${id} is in use.`);
    // Undefined if the collection was removed. The old session is gone then too, as the next write finds out.
    return typeof written === 'object' ? written : undefined;
  }

  /** Deletes a document that has ended, or that no browser knows. A failure leaves garbage, and is ignored. */
  async #delete(id: string, deadline: Deadline): Promise<void> {
    await this.collection.delete(id, deadline).catch(() => {});
  }
}
