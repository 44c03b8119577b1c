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
 * The longest page that is remembered, in characters. The single cookie of a `CookieStore` holds some 3 KB, and JSON in
 * UTF-8 takes two bytes at most for a character of a URL: so there is room for it, and for a third of a session beside it.
 */
const LONGEST_PAGE = 1024;

const WHY = { expired: 'Session expired', elsewhere: SIGNED_OUT_ELSEWHERE };

/**
 * Exempts a route, or a controller's routes, from an `AuthenticatedGuard` that is bound globally. Subclasses of the
 * controller inherit it, as they do all of Nest's metadata; {@link RequireLogin} takes it back.
 */
export const Public = (): MethodDecorator & ClassDecorator => SetMetadata(PUBLIC, true);

/** Takes {@link Public} back, for a route of a public controller or for a subclass of one. */
export const RequireLogin = (): MethodDecorator & ClassDecorator => SetMetadata(PUBLIC, false);

/**
 * Lets those in who are logged in.
 *
 * Everyone else gets 401, or, where `auth.loginPath` is set, browsers are redirected there: with the flash message
 * `error`, and with the page they asked for under the session key `returnTo`, if it is a path of this site of 1024
 * characters at most. A client whose Accept header names JSON and not HTML gets the 401 all the same. A store that cannot be reached is a 503: the guard fails closed.
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
    const session = await this.sessions.acquire(at);
    if (session.userId !== undefined) return true;

    const { ended } = RequestSession.transactionOf(session);
    const message = ended ? WHY[ended] : 'Please login to continue';
    const { loginPath } = this.options.auth;
    const isPage = context.getType() === 'http' && !wantsJson(at.request.headers.accept);
    if (loginPath === undefined || !at.response || !isPage) {
      throw new LoginRequiredException(message);
    }
    session.flash.set('error', message);
    const reads = at.request.method === 'GET' || at.request.method === 'HEAD';
    const asked = at.request.originalUrl ?? at.request.url;
    // Only a page can be gone back to: repeating a POST as a GET would ask for something else.
    if (reads && isLocalPath(asked) && asked !== loginPath) {
      if (asked.length <= LONGEST_PAGE) session.set('returnTo', asked);
      // Nor is the one before it: the login would lead to a page that was not asked for.
      else session.delete('returnTo');
    }
    // Any filter keeps a header and a status, so the redirect works whichever filter answers.
    at.response.setHeader('Location', loginPath);
    throw new LoginRequiredException(message, reads ? HttpStatus.FOUND : HttpStatus.SEE_OTHER, loginPath);
  }
}

function wantsJson(accept: string | undefined): boolean {
  return accept !== undefined && /[/+]json\b/i.test(accept) && !/\btext\/html\b|\bxhtml\b/i.test(accept);
}
