import { type ExecutionContext, Inject, Injectable } from '@nestjs/common';
import { createHmac, type KeyObject } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { KeyRing } from '../crypto/key-ring.js';
import { DUPLICATE, readCookie } from '../http/cookie-header.js';
import { type HttpRequest, isUpgrade, type Located, locateFrom } from '../http/request-context.js';
import { addVary, type OutgoingHeaders, setCookie } from '../http/outgoing-headers.js';
import { SessionCookie } from '../http/session-cookie.js';
import { type ResolvedSessionOptions, SESSION_OPTIONS } from '../options/resolved-options.js';
import { RequestSession } from '../session/request-session.js';
import type { CsrfRefusal } from '../session/session-events.js';
import { SessionManager } from '../session/session-manager.js';
import { SessionRuntime } from '../session/session-runtime.js';
import { VISITOR_CSRF } from '../session/field-names.js';
import type { SessionTransaction } from '../session/session-transaction.js';
import {
  type CsrfEvidence,
  type CsrfTokenVerdict,
  handshakeRefusal,
  isSafe,
  refusal,
} from './csrf-decision.js';
import {
  handshakeEvidence,
  isUnreadMultipart,
  methodsOf,
  ownOrigin,
  tokenIn,
  valuesOf,
} from './csrf-evidence.js';
import { CsrfException } from './csrf.exception.js';
import { mintToken, tokenMatches } from './csrf-token.js';
import { VisitorCookie, type VisitorSecret } from './csrf-visitor.js';

/** The service of each application, for the parameter decorator, which is given nothing to find it by. */
const services = new WeakMap<SessionRuntime, CsrfService>();

/**
 * Makes and checks CSRF tokens: what `@CsrfToken()` and `CsrfGuard` are made of, for use outside of decorators.
 *
 * A token belongs to a session and to the user who is logged in: it is signed under a secret derived from the
 * session's own, and so dies with the session's id, at login, logout and regeneration (CVE-2023-29020). A visitor
 * without a session has a secret in a sealed cookie instead, which is dropped at login.
 */
@Injectable()
export class CsrfService {
  readonly #options: ResolvedSessionOptions['csrf'];
  readonly #keys: readonly KeyObject[];
  readonly #visitors: VisitorCookie;
  readonly #readable: SessionCookie | undefined;
  readonly #cookieAge: number;
  readonly #visiting = new WeakMap<SessionTransaction, VisitorSecret>();

  constructor(
    @Inject(SESSION_OPTIONS) options: ResolvedSessionOptions,
    @Inject(SessionRuntime) private readonly runtime: SessionRuntime,
    private readonly sessions: SessionManager,
  ) {
    const keys = new KeyRing(options.secrets);
    this.#options = options.csrf;
    this.#keys = keys.keysFor('csrf');
    this.#visitors = new VisitorCookie(options.cookie, keys, options.maxAge, options.clock);
    this.#readable = readableCookie(options);
    this.#cookieAge = Math.ceil(options.maxAge / 1000);
    services.set(runtime, this);
    runtime.extensions.push({
      opened: (transaction: SessionTransaction) => this.#joinResponse(transaction),
      created: (transaction: SessionTransaction) => this.#keepVisitorSecret(transaction),
    });
  }

  /** @internal The service of the application that a session belongs to. */
  static of(session: RequestSession): CsrfService {
    return services.get(RequestSession.transactionOf(session).runtime) as CsrfService;
  }

  /** A token for the session of a request: 64 characters, another each time, each valid as long as the session's id. */
  async token(from: ExecutionContext | object): Promise<string> {
    return this.mint((await this.sessions.open(from)) as RequestSession);
  }

  /** @internal */
  mint(session: RequestSession): string {
    const transaction = RequestSession.transactionOf(session);
    transaction.use();
    return mintToken(this.#secret(transaction));
  }

  /**
   * Checks a request as `CsrfGuard` does, whatever its method: rejects with {@link CsrfException}, and resolves if it
   * may pass. The request behind a socket may if its handshake is allowed.
   */
  async verify(from: ExecutionContext | object): Promise<void> {
    const at = locateFrom(from);
    const session = await this.sessions.openNow(at);
    const transaction = RequestSession.transactionOf(session);
    const reason = isUpgrade(at.request)
      ? this.#judgeHandshake(at.request)
      : refusal(this.#evidence(at, transaction), this.#options);
    if (reason === undefined) return;
    transaction.reply.onSend(CsrfException, (response) => {
      addVary(response, 'Sec-Fetch-Site');
      addVary(response, 'Origin');
    });
    const id = transaction.status === 'stored' ? transaction.id : undefined;
    this.runtime.emit({ type: 'rejected', reason: 'csrf', check: reason, id });
    throw new CsrfException(reason);
  }

  /** @internal Whether a request changes nothing, so that nothing has to be checked. What comes over a socket may. */
  isSafe(request: HttpRequest): boolean {
    return !isUpgrade(request) && isSafe(methodsOf(request));
  }

  /**
   * Whether a WebSocket handshake comes from one of our own pages or a trusted origin, by its `Origin` header, which
   * every browser sends and no page can forge, and by `Sec-Fetch-Site` where it comes (ASVS 5.0 V4.4.2). One without an
   * Origin, `null` or two is refused, and so is an `http:` page of ours where the session's cookie is Secure.
   */
  allowsHandshake(request: IncomingMessage): boolean {
    return this.#judgeHandshake(request) === undefined;
  }

  #judgeHandshake(request: HttpRequest): CsrfRefusal | undefined {
    return handshakeRefusal(handshakeEvidence(request, this.runtime.cookie), this.#options.trustedOrigins);
  }

  #evidence({ request }: Located, transaction: SessionTransaction): CsrfEvidence {
    return {
      methods: methodsOf(request),
      fetchSite: valuesOf(request, 'sec-fetch-site'),
      origin: valuesOf(request, 'origin'),
      referer: valuesOf(request, 'referer'),
      own: ownOrigin(request),
      token: this.#options.mode === 'origin-only' ? 'missing' : this.#judgeToken(request, transaction),
    };
  }

  #judgeToken(request: HttpRequest, transaction: SessionTransaction): CsrfTokenVerdict {
    const token = tokenIn(request, this.#options.field);
    if (token === undefined) return isUnreadMultipart(request) ? 'unread' : 'missing';
    if (typeof token !== 'string') return 'invalid';
    return this.#accepted(transaction).some((secret) => tokenMatches(secret, token)) ? 'valid' : 'invalid';
  }

  /** The secret that tokens of this session are made with. */
  #secret(transaction: SessionTransaction): Buffer {
    if (transaction.status === 'stored') return derived(this.#keys[0], transaction);
    const visitor = this.#visitor(transaction) ?? this.#visitors.newSecret();
    this.#visiting.set(transaction, visitor);
    this.#joinResponse(transaction);
    return visitor.secret;
  }

  /** The secrets whose tokens are accepted: of the forms rendered before the session began as well, until a login. */
  #accepted(transaction: SessionTransaction): Buffer[] {
    if (transaction.status === 'stored') {
      const secrets = this.#keys.map((key) => derived(key, transaction));
      const before = transaction.fields.text(VISITOR_CSRF);
      return before === undefined ? secrets : [...secrets, Buffer.from(JSON.parse(before), 'base64url')];
    }
    const visitor = this.#visitor(transaction);
    return visitor ? [visitor.secret] : [];
  }

  /** A visitor's session begins: the forms that are open now stay usable, as long as its id. */
  #keepVisitorSecret(transaction: SessionTransaction): readonly (readonly [string, string])[] {
    const visitor = this.#visitor(transaction);
    return visitor ? [[VISITOR_CSRF, JSON.stringify(visitor.secret.toString('base64url'))]] : [];
  }

  #visitor(transaction: SessionTransaction): VisitorSecret | undefined {
    const known = this.#visiting.get(transaction);
    if (known) return known;
    const { request, reply } = transaction;
    return this.#visitors.read(request.headers.cookie, reply.secure);
  }

  /** Only a response that has something to say about our cookies waits for us. */
  #joinResponse(transaction: SessionTransaction): void {
    const { request, reply } = transaction;
    const concerned =
      this.#readable || this.#visiting.has(transaction) || this.#visitors.isIn(request.headers.cookie);
    if (concerned)
      reply.onSend(this, (response, isShared) => this.#addCookies(transaction, response, isShared));
  }

  /**
   * A response that a shared cache may keep gets none of our cookies, since it would hand them to others; nor does one
   * whose session has ended elsewhere, where they would replace newer ones.
   */
  #addCookies(transaction: SessionTransaction, response: OutgoingHeaders, isShared: boolean): void {
    if (transaction.status === 'gone' || isShared) return;
    const { request, reply, status } = transaction;
    const { secure } = reply;
    const sealed = this.#visitors.read(request.headers.cookie, secure);
    const isDue = status !== 'stored' && sealed !== undefined && this.#visitors.isDue(sealed);

    const readable = this.#readable;
    // It lives as long as the cookie it goes with, so it is sent whenever that is.
    if (readable && (reply.cookie === 'issue' || isDue || !this.#readableIsFresh(readable, transaction))) {
      const token = mintToken(this.#secret(transaction));
      setCookie(response, readable.name(secure), readable.line(token, this.#cookieAge, secure));
    }
    const name = this.#visitors.name(secure);
    const visitor = this.#visiting.get(transaction) ?? sealed;
    if (status === 'stored') {
      if (this.#visitors.isIn(request.headers.cookie))
        setCookie(response, name, this.#visitors.deletion(secure));
    } else if (visitor && (isDue || !sealed)) {
      setCookie(response, name, this.#visitors.line(visitor, secure));
    }
  }

  #readableIsFresh(cookie: SessionCookie, transaction: SessionTransaction): boolean {
    const { request, reply } = transaction;
    const value = readCookie(request.headers.cookie, cookie.name(reply.secure));
    if (value === undefined || value === DUPLICATE) return false;
    return this.#accepted(transaction).some((secret) => tokenMatches(secret, value));
  }
}

function readableCookie({ csrf, cookie }: ResolvedSessionOptions): SessionCookie | undefined {
  if (csrf.cookie === false) return undefined;
  const usual = csrf.cookie === true;
  const name = csrf.cookie === true ? 'XSRF-TOKEN' : csrf.cookie;
  return new SessionCookie({
    cookie: { ...cookie, name, hostPrefix: cookie.hostPrefix && usual, httpOnly: false },
  });
}

/** HMAC of the session's secret: 32 bytes that change whenever the id does, and that no store has to keep. */
function derived(key: KeyObject, { identity }: SessionTransaction): Buffer {
  return createHmac('sha256', key).update(identity.secret).digest();
}
