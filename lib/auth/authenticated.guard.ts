import {
  type CanActivate,
  type ExecutionContext,
  HttpStatus,
  Inject,
  Injectable,
  SetMetadata,
} from '@nestjs/common';
import { locate } from '../http/request-context.js';
import { type ResolvedSessionOptions, SESSION_OPTIONS } from '../options/resolved-options.js';
import { RequestSession } from '../session/request-session.js';
import { SessionManager } from '../session/session-manager.js';
import { SIGNED_OUT_ELSEWHERE } from '../session/user-sessions.js';
import { LoginRequiredException } from './login-required.exception.js';
import { isLocalPath } from '../util/local-path.js';

const PUBLIC = 'nest-session:public';

/**
 * The longest URL that is stored under `returnTo`, in characters. A character of a URL takes at most two bytes of JSON,
 * so the URL takes at most two thirds of the 3 KB that one cookie of a `CookieStore` holds.
 */
const MAX_RETURN_TO = 1024;

const MESSAGES = { expired: 'Session expired', displaced: SIGNED_OUT_ELSEWHERE };

/**
 * Exempts a route, or a controller's routes, from an `AuthenticatedGuard` that is bound globally. Subclasses of the
 * controller inherit it, as they do all of Nest's metadata; {@link RequireLogin} takes it back.
 */
export const Public = (): MethodDecorator & ClassDecorator => SetMetadata(PUBLIC, true);

/** Takes {@link Public} back, for a route of a public controller or for a subclass of one. */
export const RequireLogin = (): MethodDecorator & ClassDecorator => SetMetadata(PUBLIC, false);

/**
 * Accepts requests of logged-in users, and answers all others with 401.
 *
 * With `auth.loginPath`, it redirects browsers there instead. The flash message `error` says why. The session key
 * `returnTo` holds the requested page, if it is a path of this site of at most 1024 characters. A client whose Accept
 * header names JSON and not HTML still gets the 401. A store that cannot be reached is a 503: the guard fails closed.
 */
@Injectable()
export class AuthenticatedGuard implements CanActivate {
  constructor(
    private readonly sessions: SessionManager,
    @Inject(SESSION_OPTIONS) private readonly options: ResolvedSessionOptions,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    // The route's own word before its controller's.
    if (Reflect.getMetadata(PUBLIC, context.getHandler()) ?? Reflect.getMetadata(PUBLIC, context.getClass()))
      return true;
    const at = locate(context);
    const session = await this.sessions.openNow(at);
    if (session.userId !== undefined) return true;

    const { ended } = RequestSession.transactionOf(session);
    const message = ended ? MESSAGES[ended] : 'Please login to continue';
    const { loginPath } = this.options.auth;
    const isPage = context.getType() === 'http' && !wantsJson(at.request.headers.accept);
    if (loginPath === undefined || !at.response || !isPage) {
      throw new LoginRequiredException(message);
    }
    session.flash.set('error', message);
    const reads = at.request.method === 'GET' || at.request.method === 'HEAD';
    const asked = at.request.originalUrl ?? at.request.url;
    // Not after a POST: the login redirects with GET, which would request something else.
    if (reads && isLocalPath(asked) && asked !== loginPath) {
      if (asked.length <= MAX_RETURN_TO) session.set('returnTo', asked);
      // An older `returnTo` would lead the login to a page that was not requested.
      else session.delete('returnTo');
    }
    // Every exception filter keeps a header and the status, so the redirect works with any of them.
    at.response.setHeader('Location', loginPath);
    throw new LoginRequiredException(message, reads ? HttpStatus.FOUND : HttpStatus.SEE_OTHER, loginPath);
  }
}

function wantsJson(accept: string | undefined): boolean {
  return accept !== undefined && /[/+]json\b/i.test(accept) && !/\btext\/html\b|\bxhtml\b/i.test(accept);
}
