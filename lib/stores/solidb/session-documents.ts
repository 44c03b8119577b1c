import { SerialQueues } from '../../util/serial-queue.js';
import { BoundedCache } from '../../util/bounded-cache.js';
import type { DeadRecord, SessionRecord } from '../session-store.js';
import { documentOf, ENDED, type SessionDocument, sessionIn } from './session-document.js';
import type { SolidbCollection, Written } from './solidb-collection.js';
import type { ResolvedSolidbOptions } from './solidb-options.js';
import type { SolidbCapabilities } from './solidb-capabilities.js';
import { Deadline } from './deadline.js';

/** A document as it was when it was read. */
interface Seen extends Written {
  readonly session: SessionRecord | DeadRecord | 'ended';
}

/** What a write makes of a record, and the fields it sends for that; or that the session ends. */
export type Change = { readonly record: SessionRecord; readonly fields: Partial<SessionDocument> } | 'ended';

/** Attempts at a change. Before each but the first somebody else changed the session, so this many mean a fault. */
const MOST_ATTEMPTS = 50;

const AGAIN = Symbol('again');

/**
 * The sessions of a collection and the one way to change them: look, write on condition that it is still so, or begin
 * again. Changes of one session take turns within this process.
 */
export class SessionDocuments {
  readonly #queues = new SerialQueues();
  // What a request has read it mostly writes to, and the revision tells whether it is still so: no second look.
  readonly #seen = new BoundedCache<Seen>(500, 5000);

  constructor(
    private readonly collection: SolidbCollection,
    private readonly capabilities: SolidbCapabilities,
    private readonly options: ResolvedSolidbOptions,
  ) {}

  /** A record of the caller's own, or why there is none; undefined if there is no document. */
  async read(id: string, deadline: Deadline): Promise<Seen['session'] | undefined> {
    const session = (await this.#look(id, deadline))?.session;
    return typeof session === 'object' ? { ...session, fields: new Map(session.fields) } : session;
  }

  /** Stores a new session; false if a live one is there. */
  create(id: string, record: SessionRecord, deadline: Deadline): Promise<boolean> {
    const document = documentOf(record);
    return this.#inTurn(id, deadline, async (compareAndSet) => {
      // Where an insertion overwrites, one has to look first.
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

  /** Changes a live session; false if there is none. `change` is asked again when another change came first. */
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
   * Moves a live session to a new id; false if there is none.
   *
   * The new document comes first, then the end of the old one, on which two moves, a move and a destruction, or a move
   * and a write cannot agree: whoever loses begins again and finds the session ended, or carries the other's write over.
   * Where this stops half-way (the process dies, the server is lost):
   * - before the end of the old one, that lives on as if nothing had happened. The new one is garbage: its secret was
   *   never sent to anybody. It is deleted if that is still possible, or else listed until it expires.
   * - after it, the new one is whole, and of the old there is an empty document, which a sweep removes.
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

  /** Ends a session that is no good any more and says why it was not; undefined if it has ended or has been extended. */
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
    // Where the collection has vanished under it, the session to be moved has too, as the next write will find.
    return typeof written === 'object' ? written : undefined;
  }

  /** Of what has ended, or is known to nobody. A failure leaves garbage, and what has been done is done. */
  async #delete(id: string, deadline: Deadline): Promise<void> {
    await this.collection.delete(id, deadline).catch(() => {});
  }
}
