import type { Logger } from '@nestjs/common';
import { inspect } from 'node:util';
import { KeyRing } from '../crypto/key-ring.js';
import { SessionConfigurationError } from '../errors.js';
import { checkedStore, type ResolvedSessionOptions } from '../options/resolved-options.js';
import { BoundedStore } from '../stores/bounded-store.js';
import { MigratingStore, storesIn } from '../stores/migrating.store.js';
import type { SessionStore } from '../stores/session-store.js';
import { TravelInUse } from './travel-in-use.js';

/** The store in use, how its sessions travel, and the switch to another store while serving. */
export class StoreInUse {
  readonly travel: TravelInUse;
  readonly #maxSessionsPerUser: number;
  readonly #timeout: number;
  readonly #logger: Logger;
  /** Every store that was ever in use: what they opened is theirs to close in the end. */
  readonly #used = new Set<SessionStore>();
  #store: BoundedStore;

  constructor(options: ResolvedSessionOptions, logger: Logger) {
    this.travel = new TravelInUse(options, new KeyRing(options.secrets));
    this.#maxSessionsPerUser = options.auth.maxSessionsPerUser;
    this.#timeout = options.storeTimeout;
    this.#logger = logger;
    this.#used.add(options.store);
    this.#store = this.#put(options.store);
  }

  get store(): BoundedStore {
    return this.#store;
  }

  /**
   * Sessions are in `store` from now on; with `migrate`, those in the present one are moved when they are used. Rejects,
   * and changes nothing, if the store cannot be used.
   */
  async use(store: SessionStore, migrate: boolean): Promise<void> {
    this.#check(checkedStore(store));
    await this.#bounded(store).ping();
    const present = this.#store;
    // When switching back to a store, it is not also one to migrate from.
    const others = migrate ? [...storesIn(present.store)].filter((other) => other !== store) : [];
    const idle = present.idle();
    const chain = [store, ...others].reduceRight(
      (from, to) => new MigratingStore(to, from, idle, this.#timeout),
    );
    this.#store = this.#put(chain);
    this.#used.add(store);
  }

  /** Closes every store that was in use. */
  async close(): Promise<void> {
    await Promise.all([...this.#used].map((store) => store.close?.()));
  }

  #put(store: SessionStore): BoundedStore {
    this.#check(store);
    this.travel.use(store);
    for (const warning of this.travel.current.warnings ?? []) this.#logger.warn(warning);
    return this.#bounded(store);
  }

  #check(store: SessionStore): void {
    if (this.#maxSessionsPerUser === Infinity || store.listByUser) return;
    throw new SessionConfigurationError(
      'auth.maxSessionsPerUser',
      `it needs a store that can list the sessions of a user, and ${store.constructor.name} has no listByUser()`,
    );
  }

  #bounded(store: SessionStore): BoundedStore {
    return new BoundedStore(store, this.#timeout, (operation, cause) =>
      this.#logger.error(`The session store could not be reached (${operation}): ${messageOf(cause)}`),
    );
  }
}

function messageOf(cause: unknown): string {
  // String() throws for some values, and a store may reject with any.
  return cause instanceof Error ? cause.message : inspect(cause);
}
