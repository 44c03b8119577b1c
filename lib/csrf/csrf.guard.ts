import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { SessionUsageError } from '../errors.js';
import { locate } from '../http/request-context.js';
import { csrfRuleOf } from './csrf.decorators.js';
import { CsrfService } from './csrf.service.js';

/**
 * Refuses requests that another site makes a browser send: with `@UseGuards(CsrfGuard)` on a mutating route, or bound
 * globally, `{ provide: APP_GUARD, useExisting: CsrfGuard }`.
 *
 * GET, HEAD and OPTIONS pass, unless `@CsrfProtect()` says otherwise; `@SkipCsrf()` exempts a route. Everything else
 * needs headers that do not object (`Sec-Fetch-Site`, `Origin`, `Referer`) and, by `csrf.mode`, a valid token. What
 * comes over a WebSocket needs a handshake that `CsrfService.allowsHandshake` allows, and no token. Refused is a 403
 * with {@link CsrfException}, and the store is not written to.
 */
@Injectable()
export class CsrfGuard implements CanActivate {
  constructor(private readonly csrf: CsrfService) {}

  canActivate(context: ExecutionContext): boolean | Promise<boolean> {
    const rule = csrfRuleOf(context);
    if (rule === 'skip') return true;
    const type = context.getType<string>();
    if (type !== 'http' && type !== 'graphql') {
      throw new SessionUsageError(
        `CsrfGuard checks HTTP and GraphQL requests, and this is a context of type "${type}". ` +
          'For sockets, check the handshake: CsrfService.allowsHandshake(request).',
      );
    }
    // A GraphQL server may run a mutation for a HEAD: Fastify makes one of each GET.
    const mayBeSafe = type === 'http' || isQuery(context);
    if (rule !== 'protect' && mayBeSafe && this.csrf.isSafe(locate(context).request)) return true;
    return this.csrf.verify(context).then(() => true);
  }
}

function isQuery(context: ExecutionContext): boolean {
  const info: { readonly operation?: { readonly operation?: string } } | undefined = context.getArgByIndex(3);
  return info?.operation?.operation === 'query';
}
