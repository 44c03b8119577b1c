import { Logger } from '@nestjs/common';
import { inspect } from 'node:util';
import { KeyRing } from '../crypto/key-ring.js';
import { SessionConfigurationError } from '../errors.js';
import { isHttps, type HttpRequest } from '../http/request-context.js';
import type { SessionCookie } from '../http/session-cookie.js';
import { checkedStore, type ResolvedSessionOptions } from '../options/resolved-options.js';
import { BoundedStore } from '../stores/bounded-store.js';
import { MigratingStore, storesIn } from '../stores/migrating.store.js';
import type { SessionStore } from '../stores/session-store.js';
import { EventStream } from './event-stream.js';
import type { LifetimeRules } from './lifetime.js';
import type { SessionEvent } from './session-events.js';
import type { SessionExtension } from './session-extension.js';
import { TravelInUse } from './travel-in-use.js';
import { UserSessions } from './user-sessions.js';

/** What every transaction of an application shares: the store, the keys, the clock and the rules of time. */
export class SessionRuntime {
  readonly logger = new Logger('SessionModule');
  readonly events = new EventStream(this.logger);
  readonly travel: TravelInUse;
  readonly users = new UserSessions(this);
  readonly now: () => number;
  readonly authKey: string;
  readonly maxSessionsPerUser: number;
  readonly lifetime: LifetimeRules;
  readonly onStoreError: 'throw' | 'anonymous';
  readonly defaults: () => ReadonlyMap<string, string>;
  readonly extensions: SessionExtension[] = [];
  /** What wants to know that sessions may have ended of which no event tells: all of them, or those of another store. */
  readonly onManyEnded: (() => void)[] = [];
  readonly #storeTimeout: number;
  /** Every store that was ever in use: what they opened is theirs to close in the end. */
  readonly #used = new Set<SessionStore>();
  #store: BoundedStore;
  #warnedOfProxy = false;
  #warnedOfForeignSession = false;

  constructor(options: ResolvedSessionOptions) {
    this.travel = new TravelInUse(options, new KeyRing(options.secrets));
    this.maxSessionsPerUser = options.auth.maxSessionsPerUser;
    this.#storeTimeout = options.storeTimeout;
    this.#used.add(options.store);
    this.#store = this.#put(options.store);
    this.now = options.clock;
    this.authKey = options.auth.key;
    this.lifetime = options;
    this.onStoreError = options.onStoreError;
    this.defaults = options.defaults;
  }

  /** The store in use. */
  get store(): BoundedStore {
    return this.#store;
  }

  get cookie(): SessionCookie {
    return this.travel.cookie;
  }

  /** Sessions are in `store` from now on; with `migrate`, those in the present one are moved when they are used. */
  async useStore(store: SessionStore, migrate: boolean): Promise<void> {
    this.#check(checkedStore(store));
    await this.#bounded(store).ping();
    const present = this.#store;
    // One that sessions move back to is not also one that they come from.
    const others = migrate ? [...storesIn(present.store)].filter((other) => other !== store) : [];
    const idle = present.idle();
    const chain = [store, ...others].reduceRight(
      (from, to) => new MigratingStore(to, from, idle, this.#storeTimeout),
    );
    this.#store = this.#put(chain);
    this.#used.add(store);
    this.manyEnded();
  }

  /** Tells those who want to know that sessions may have ended. */
  manyEnded(): void {
    for (const notice of this.onManyEnded) notice();
  }

  /** Closes every store that was in use. */
  async close(): Promise<void> {
    this.events.complete();
    await Promise.all([...this.#used].map((store) => store.close?.()));
  }

  #put(store: SessionStore): BoundedStore {
    this.#check(store);
    this.travel.use(store);
    for (const warning of this.travel.current.warnings ?? []) this.logger.warn(warning);
    return this.#bounded(store);
  }

  #check(store: SessionStore): void {
    if (this.maxSessionsPerUser === Infinity || store.listByUser) return;
    throw new SessionConfigurationError(
      'auth.maxSessionsPerUser',
      `it needs a store that can list the sessions of a user, and ${store.constructor.name} has no listByUser()`,
    );
  }

  #bounded(store: SessionStore): BoundedStore {
    return new BoundedStore(store, this.#storeTimeout, (operation, cause) =>
      this.logger.error(`The session store could not be reached (${operation}): ${messageOf(cause)}`),
    );
  }

  emit(event: SessionEvent): void {
    this.events.emit(event);
  }

  /** Once: another library has put its own session on the request. */
  reportForeignSession(): void {
    if (this.#warnedOfForeignSession) return;
    this.#warnedOfForeignSession = true;
    this.logger.warn(
      'request.session belongs to another library here and is left to it. The session of SessionModule is what ' +
        '@Session() and SessionManager.open(request) give.',
    );
  }

  /** Once: a Secure cookie on what looks like plain HTTP is most often a proxy that nobody told the adapter about. */
  checkProxy(request: HttpRequest): void {
    if (this.#warnedOfProxy || isHttps(request)) return;
    this.#warnedOfProxy = true;
    this.logger.warn(
      'A Secure session cookie was set on a request that looks like plain HTTP. Behind a proxy that ends TLS, tell ' +
        "the adapter to trust it: app.set('trust proxy', 1) on Express, new FastifyAdapter({ trustProxy: true }) on Fastify.",
    );
  }
}

function messageOf(cause: unknown): string {
  // String() throws for some values, and a store may reject with any.
  return cause instanceof Error ? cause.message : inspect(cause);
}
