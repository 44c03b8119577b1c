import { Logger } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { SolidbCollection } from './solidb-collection.js';
import type { ResolvedSolidbOptions } from './solidb-options.js';
import { Deadline } from './deadline.js';

/** For how long a TTL index leaves a session after its end, in seconds: the server's clock may be ahead of ours. */
const TTL_GRACE = 60;

/** A document that no query takes for a session. */
const PROBE = { probe: true };

/** What the server can do. */
export interface Capabilities {
  /** Whether it writes on condition of a revision, and never over a document when it is to create one: SoliDB 1.2. */
  readonly compareAndSet: boolean;
  /** Whether it deletes expired sessions by itself. */
  readonly expires: boolean;
}

/**
 * Makes the collection if it is missing and finds out what the server can do: before the first write, once for all
 * requests that wait for it, and again if it failed.
 */
export class SolidbCapabilities {
  readonly #sessions: SolidbCollection;
  readonly #options: ResolvedSolidbOptions;
  readonly #logger = new Logger('SolidbStore');
  #capabilities: Capabilities | undefined;
  #pending: Promise<Capabilities> | undefined;

  constructor(sessions: SolidbCollection, options: ResolvedSolidbOptions) {
    this.#sessions = sessions;
    this.#options = options;
  }

  async get(deadline: Deadline): Promise<Capabilities> {
    if (this.#capabilities) return this.#capabilities;
    this.#pending ??= this.#prepare(new Deadline(this.#options.timeout)).finally(
      () => (this.#pending = undefined),
    );
    return deadline.wait(this.#pending);
  }

  /** The collection has vanished: it is made again before the next write. */
  forget(): void {
    this.#capabilities = undefined;
  }

  async #prepare(deadline: Deadline): Promise<Capabilities> {
    const compareAndSet = await this.#probe(deadline);
    if (!compareAndSet) {
      this.#logger.warn(
        'This SoliDB server is older than 1.2 and cannot make a write depend on what it overwrites. Writes of one ' +
          'session take turns within this process. Between processes the last one wins, and may bring back what ' +
          'another has just destroyed: run one process, or a newer server.',
      );
    }
    const expires = this.#options.ttlIndex && compareAndSet;
    if (expires) await this.#sessions.expireBy('purge_at', TTL_GRACE, deadline);
    else if (this.#options.ttlIndex) {
      this.#logger.warn(
        'SolidbStore ttlIndex is ignored: before SoliDB 1.2 it deletes sessions that were extended.',
      );
    }
    return (this.#capabilities = { compareAndSet, expires });
  }

  /** No version is to be trusted, only what the server does: with a second document of a key, and with a wrong revision. */
  async #probe(deadline: Deadline): Promise<boolean> {
    const key = `probe-${randomUUID()}`;
    const insert = () => this.#sessions.insert(key, PROBE, deadline);
    if ((await insert()) === 'no collection') {
      await this.#sessions.make(deadline);
      await insert();
    }
    const createsOnly = (await insert()) === 'taken';
    const compares = (await this.#sessions.update(key, 'no such revision', PROBE, deadline)) === 'changed';
    await this.#sessions.delete(key, deadline);
    return createsOnly && compares;
  }
}
