import type { ServerResponse } from 'node:http';
import type { SessionRecord } from '../stores/session-store.js';
import type { Identity } from '../stores/session-travel.js';
import { SessionUsageError } from '../errors.js';
import { isHttps, type Located } from '../http/request-context.js';
import { addVary, isShared, type OutgoingHeaders, setCookie } from '../http/outgoing-headers.js';
import { type BeforeSend, ResponseHook } from '../http/response-hook.js';
import { secondsUntil } from './lifetime.js';
import type { SessionRuntime } from './session-runtime.js';

/** What the reply needs to know of the session it speaks of. */
interface Subject {
  readonly saving: Pick<BeforeSend, 'failure' | 'closed' | 'failed'> & {
    saved(): Promise<void> | undefined;
    readonly settled: Promise<void> | undefined;
  };
  readonly identity: Identity;
  readonly times: { readonly expiresAt: number };
  /** All of it, as it was last saved. */
  record(): SessionRecord;
}

/** Puts something on a response, which the application lets shared caches keep or not. */
type Addition = (headers: OutgoingHeaders, isShared: boolean) => void;

/**
 * What a response says about its session: the cookie, that it varies by cookie, that no cache may keep it; and
 * whether it can still say so.
 */
export class SessionResponse implements BeforeSend {
  /** What the browser is told about its cookie. */
  cookie: 'keep' | 'issue' | 'remove' = 'keep';

  readonly #runtime: SessionRuntime;
  readonly #at: Located;
  readonly #session: Subject;
  readonly #response: ServerResponse | undefined;
  #hook: ResponseHook | undefined;
  #isSealed = false;
  #varies = false;
  #others: Map<object, Addition> | undefined;
  #secure: boolean | undefined;

  constructor(runtime: SessionRuntime, at: Located, session: Subject) {
    this.#runtime = runtime;
    this.#at = at;
    this.#session = session;
    this.#response = at.response;
  }

  /** True if the request's cookie is Secure. */
  get secure(): boolean {
    return (this.#secure ??= this.#runtime.cookie.isSecure(() => isHttps(this.#at.request)));
  }

  /** True once somebody has begun to send the response: it saves, and deals with a save that fails. */
  get begun(): boolean {
    return this.#hook !== undefined && this.#hook.begun && !this.#hook.isClosed;
  }

  /** True once the connection is closed: no decision of the response saves any more. */
  get isClosed(): boolean {
    return this.#hook?.isClosed ?? false;
  }

  get canSetCookie(): boolean {
    if (!this.#response || this.#isSealed || this.#response.destroyed) return false;
    return !(this.#hook?.headersLeft ?? this.#response.headersSent);
  }

  /** True once the client has hung up without an answer: a session that begins now is nobody's. */
  get isAbandoned(): boolean {
    return this.#response !== undefined && this.#response.destroyed && !this.#response.headersSent;
  }

  /** The headers are about to leave: from now on there is no place for a new cookie. */
  seal(): void {
    this.#isSealed = true;
  }

  /** Asked before the store is: a new id that the browser cannot be told would be a session lost. */
  requireCookie(): void {
    if (this.canSetCookie) return;
    throw new SessionUsageError(
      this.#response
        ? 'The session needs a new cookie, but the headers of this response have been sent already, or its client has ' +
            'hung up. Write to the session (or log in) before the first byte of the response.'
        : 'The session needs a new cookie, but there is no response to put it in: sockets and subscriptions ' +
            'can change a session, not create it or log in.',
    );
  }

  /** The response depends on the session. */
  vary(): void {
    if (this.#varies) return;
    this.#varies = true;
    this.wait();
  }

  /** The browser is to forget its cookie. */
  remove(): void {
    this.cookie = 'remove';
    this.wait();
  }

  /** From now on the response waits until the session is saved. */
  wait(): void {
    if (!this.#response || this.#hook) return;
    this.#hook = ResponseHook.of(this.#response);
    this.#hook.add(this);
  }

  save(sendsHeaders: boolean): Promise<void> | undefined {
    const { saving } = this.#session;
    const saved = saving.saved();
    if (!sendsHeaders) return saved;
    // Whatever needs a cookie is done by then, or refused.
    return saved?.finally(() => {
      this.seal();
      return saving.settled;
    });
  }

  get failure(): unknown {
    return this.#session.saving.failure;
  }

  closed(ended: boolean): void {
    this.#session.saving.closed(ended);
  }

  failed(error: unknown): void {
    this.#session.saving.failed(error);
  }

  /** Something else to put on the response, just before its headers leave; once for each `key`. */
  onSend(key: object, add: Addition): void {
    this.#others ??= new Map();
    if (this.#others.has(key)) return;
    this.#others.set(key, add);
    this.wait();
  }

  hasHeaders(): boolean {
    return this.#varies || this.cookie !== 'keep' || this.#others !== undefined;
  }

  addHeaders(headers: OutgoingHeaders): void {
    // By the application's own word, which the session's cookie changes.
    const wasShared = this.#others !== undefined && isShared(headers);
    if (this.#varies) addVary(headers, 'Cookie');
    if (this.cookie !== 'keep') {
      for (const [name, line] of this.#lines()) setCookie(headers, name, line);
      if (this.secure) this.#runtime.checkProxy(this.#at.request);
    }
    for (const add of this.#others?.values() ?? []) add(headers, wasShared);
  }

  #lines(): Map<string, string> {
    const { travel } = this.#runtime;
    const { cookie } = this.#at.request.headers;
    if (this.cookie === 'remove') return travel.deletions(this.secure, cookie);
    const { identity, times } = this.#session;
    const seconds = secondsUntil(times.expiresAt, this.#runtime.now());
    return travel.lines(identity, () => this.#session.record(), seconds, this.secure, cookie);
  }
}
