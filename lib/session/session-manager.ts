import { type ExecutionContext, Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import type { Observable } from 'rxjs';
import { SessionNotFoundError } from '../errors.js';
import { type Located, locateFrom } from '../http/request-context.js';
import type { SessionStore } from '../stores/session-store.js';
import { expose, opened, remember, rememberOpener } from './opened-session.js';
import { RequestSession } from './request-session.js';
import type { SessionEvent } from './session-events.js';
import { infoOf, type SessionInfo } from './session-info.js';
import { SessionRuntime } from './session-runtime.js';
import type { Session } from './session.js';
import { SessionTransaction } from './session-transaction.js';

/**
 * Opens the session of a request, and looks after all the others.
 *
 * Methods that reach the store reject with `SessionStoreUnavailableException` when it cannot be reached; those that
 * need a power the store lacks (listing, counting, clearing, sweeping; with a CookieStore also finding and, where it has
 * no `revocations`, revoking) reject with `E_SESSION_STORE_UNSUPPORTED`.
 */
@Injectable()
export class SessionManager implements OnApplicationShutdown {
  readonly #runtime: SessionRuntime;

  constructor(@Inject(SessionRuntime) runtime: SessionRuntime) {
    this.#runtime = runtime;
  }

  /**
   * The session of a request, loaded once however many ask: guards, interceptors, middleware and handlers all get
   * the same object. In a gateway every message loads it anew, and so does every GraphQL operation on a socket, every
   * event of a subscription, and every call with a WebSocket's handshake request. Without a cookie no store is asked.
   *
   * Takes an ExecutionContext (http, graphql, ws) or a request. The handshake request of a socket has no response to
   * put a cookie in, so its session can be read and changed, but not begun.
   */
  async open(from: ExecutionContext | object): Promise<Session> {
    return this.openNow(locateFrom(from));
  }

  /** @internal {@link open} without a promise where none is needed. */
  openNow(at: Located): RequestSession | Promise<RequestSession> {
    const known = opened(at.owner, this.#runtime);
    if (known) {
      if (!(known instanceof Promise)) this.#expose(known, at);
      return known;
    }
    const begun = SessionTransaction.begin(this.#runtime, at);
    if (!(begun instanceof Promise)) return this.#opened(begun, at);
    const loading = begun.then((transaction) => this.#opened(transaction, at));
    remember(at.owner, this.#runtime, loading);
    return loading;
  }

  /** @internal The session that has been opened for a request, or is being opened. */
  opened(at: Located): RequestSession | Promise<RequestSession> | undefined {
    return opened(at.owner, this.#runtime);
  }

  /** The session with this public id, or undefined. */
  async find(id: string): Promise<SessionInfo | undefined> {
    if (!isPublicId(id)) return undefined;
    this.#runtime.travel.current.require?.('find');
    const record = await this.#runtime.store.load(id, () => {});
    return record && infoOf(id, record, this.#runtime.lifetime);
  }

  /** The session with this public id; `SessionNotFoundError` when there is none. */
  async get(id: string): Promise<SessionInfo> {
    const info = await this.find(id);
    if (!info) throw new SessionNotFoundError(id);
    return info;
  }

  /**
   * Ends the session with this public id, wherever it is in use; whether there was one. A CookieStore cannot know: it
   * revokes the id, and says true.
   */
  async revoke(id: string): Promise<boolean> {
    if (!isPublicId(id)) return false;
    const { current } = this.#runtime.travel;
    current.require?.('revoke');
    const removed = (await this.#runtime.store.destroy(id)) || current.revokesUnseen;
    if (removed) this.#runtime.emit({ type: 'destroyed', id });
    return removed;
  }

  /** The live sessions of a user, the last used first. */
  async listByUser(userId: string): Promise<SessionInfo[]> {
    const sessions = await this.#runtime.users.list(userId);
    return [...sessions]
      .map(([id, record]) => infoOf(id, record, this.#runtime.lifetime))
      .sort((a, b) => b.lastAccessedAt.getTime() - a.lastAccessedAt.getTime());
  }

  /**
   * Ends the sessions of a user, wherever they are in use, but for the one whose public id is `except`; how many there
   * were. For "sign out everywhere", and for a changed password (ASVS 5.0 V7.4.3).
   */
  revokeByUser(userId: string, { except }: { readonly except?: string } = {}): Promise<number> {
    return this.#runtime.users.end(userId, except);
  }

  /**
   * Switches to another store while serving; rejects, and changes nothing, if that one cannot be reached or used.
   *
   * With `migrate`, a session that only the old store has is moved when it is next used, and logouts reach both; call
   * it again without, once the old sessions had time to move or to expire. Without `migrate` the old sessions end. The
   * old store is closed when the application is.
   */
  useStore(store: SessionStore, { migrate = false }: { readonly migrate?: boolean } = {}): Promise<void> {
    return this.#runtime.useStore(store, migrate);
  }

  /** How many live sessions there are. */
  count(): Promise<number> {
    return this.#runtime.store.administer('count');
  }

  /** Ends every session. */
  async clear(): Promise<void> {
    await this.#runtime.store.administer('clear');
    this.#runtime.manyEnded();
  }

  /** Removes expired records now; how many there were. */
  sweep(): Promise<number> {
    return this.#runtime.store.administer('sweep');
  }

  /** The store in use. */
  get store(): SessionStore {
    return this.#runtime.store.store;
  }

  /** What happens to sessions, as it happens. The secret of a cookie is in none of it. */
  get events(): Observable<SessionEvent> {
    return this.#runtime.events.observable;
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#runtime.close();
  }

  #opened(transaction: SessionTransaction, at: Located): RequestSession {
    const session = new RequestSession(transaction, this.#runtime);
    remember(at.owner, this.#runtime, session);
    rememberOpener(at, (another) => this.openNow(another));
    this.#expose(session, at);
    for (const extension of this.#runtime.extensions) extension.opened(transaction);
    return session;
  }

  #expose(session: RequestSession, at: Located): void {
    if (!expose(session, at)) this.#runtime.reportForeignSession();
  }
}

/** Nothing else is an id, and nothing else reaches a store: it may come from a URL. */
function isPublicId(id: string): boolean {
  return /^[0-9a-f]{64}$/.test(id);
}
