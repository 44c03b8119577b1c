import { Logger } from '@nestjs/common';
import { isHttps, type HttpRequest } from '../http/request-context.js';
import type { SessionCookie } from '../http/session-cookie.js';
import type { ResolvedSessionOptions } from '../options/resolved-options.js';
import type { BoundedStore } from '../stores/bounded-store.js';
import type { SessionStore } from '../stores/session-store.js';
import { EventStream } from './event-stream.js';
import type { LifetimeRules } from './lifetime.js';
import type { SessionEvent } from './session-events.js';
import type { SessionExtension } from './session-extension.js';
import { StoreInUse } from './store-in-use.js';
import type { TravelInUse } from './travel-in-use.js';
import { UserSessions } from './user-sessions.js';

/** What every transaction of an application shares: the store, the keys, the clock and the rules of time. */
export class SessionRuntime {
  readonly logger = new Logger('SessionModule');
  readonly events = new EventStream(this.logger);
  readonly travel: TravelInUse;
  readonly #stores: StoreInUse;
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
  #warnedOfProxy = false;
  #warnedOfForeignSession = false;

  constructor(options: ResolvedSessionOptions) {
    this.#stores = new StoreInUse(options, this.logger);
    this.travel = this.#stores.travel;
    this.maxSessionsPerUser = options.auth.maxSessionsPerUser;
    this.now = options.clock;
    this.authKey = options.auth.key;
    this.lifetime = options;
    this.onStoreError = options.onStoreError;
    this.defaults = options.defaults;
  }

  /** The store in use. */
  get store(): BoundedStore {
    return this.#stores.store;
  }

  get cookie(): SessionCookie {
    return this.travel.cookie;
  }

  /** Puts another store in use; see {@link StoreInUse.use}. */
  async useStore(store: SessionStore, migrate: boolean): Promise<void> {
    await this.#stores.use(store, migrate);
    this.manyEnded();
  }

  /** Tells those who want to know that sessions may have ended. */
  manyEnded(): void {
    for (const notice of this.onManyEnded) notice();
  }

  /** Ends the events, and closes every store that was in use. */
  async close(): Promise<void> {
    this.events.complete();
    await this.#stores.close();
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
