import { createParamDecorator, type ExecutionContext, SetMetadata } from '@nestjs/common';
import { fromSession } from '../session/opened-session.js';
import { CsrfService } from './csrf.service.js';

/**
 * A CSRF token for the page that is being rendered: put it in a hidden field called `_csrf`, or where scripts find it
 * for the `X-CSRF-Token` header. Another each time; valid as long as the session's id.
 *
 * ```ts
 * form(@CsrfToken() token: string) { return `<input type="hidden" name="_csrf" value="${token}">`; }
 * ```
 */
export const CsrfToken: () => ParameterDecorator = createParamDecorator(
  (_: undefined, context: ExecutionContext): string | Promise<string> =>
    fromSession(context, (session) => CsrfService.of(session).mint(session)),
);

const SKIP_CSRF = 'nest-session:skip-csrf';
const PROTECT = 'nest-session:csrf-protect';

/**
 * Exempts a route, or a controller's routes, from `CsrfGuard`: webhooks, OAuth `form_post` callbacks. Subclasses of the
 * controller inherit it, as they do all of Nest's metadata; {@link CsrfProtect} takes it back.
 */
export const SkipCsrf = (): MethodDecorator & ClassDecorator => SetMetadata(SKIP_CSRF, true);

/**
 * Has `CsrfGuard` check a route whatever its method: a GET that changes something. Takes {@link SkipCsrf} back, for a route
 * of an exempt controller or for a subclass of one.
 */
export const CsrfProtect = (): MethodDecorator & ClassDecorator => SetMetadata(PROTECT, true);

/** @internal What the decorators say of a route: the handler's own before its controller's, and more before less. */
export function csrfRuleOf(context: ExecutionContext): 'protect' | 'skip' | undefined {
  for (const target of [context.getHandler(), context.getClass()]) {
    if (Reflect.hasMetadata(PROTECT, target)) return 'protect';
    if (Reflect.hasMetadata(SKIP_CSRF, target)) return 'skip';
  }
  return undefined;
}
