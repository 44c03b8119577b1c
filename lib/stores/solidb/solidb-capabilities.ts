import { Logger } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import type { SolidbCollection } from './solidb-collection.js';
import type { ResolvedSolidbOptions } from './solidb-options.js';
import { Deadline } from './deadline.js';

/** Seconds for which a TTL index keeps an expired session, because the server's clock may be ahead of ours. */
const TTL_GRACE = 60;

/** A document that no query finds as a session. */
const PROBE = { probe: true };

/** The capabilities of the server. */
export interface Capabilities {
  /** True if updates can depend on a revision, and insertions never overwrite: from SoliDB 1.2 on. */
  readonly compareAndSet: boolean;
  /** True if the server deletes expired sessions itself. */
  readonly expires: boolean;
}

/**
 * Creates the collection if it is missing and finds out the capabilities of the server. It does so before the first
 * write, once for all requests that wait for it, and again after a failure.
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

  /** Has the collection created again before the next write, because it is missing. */
  forget(): void {
    this.#capabilities = undefined;
  }

  async #prepare(deadline: Deadline): Promise<Capabilities> {
    const compareAndSet = await this.#probe(deadline);
    if (!compareAndSet) {
      this.#logger.warn(
        'This SoliDB server is older than 1.2 and cannot make a write depend on a revision. Within this process, the ' +
          'writes of one session run one after the other. Between processes the last one wins, and may restore a ' +
          'session that another has just destroyed: run one process, or a newer server.',
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

  /** Tests the server itself, not its version: with a second document of one key, and with a wrong revision. */
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
