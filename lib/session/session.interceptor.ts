import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor } from '@nestjs/common';
import { Observable } from 'rxjs';
import { hasRequest, locate } from '../http/request-context.js';
import { messageSession, opened } from './opened-session.js';
import { RequestSession } from './request-session.js';
import { SessionManager } from './session-manager.js';
import { isBuildingRoute, isRefusal } from './session-routes.js';
import { skipsSession } from './session.decorators.js';

/**
 * Saves the session when a resolver or a gateway's handler has answered, before Nest sends the answer.
 *
 * After an HttpException below 500 the session is saved as well: refusing is an answer. After any other error what
 * the handler wrote and did not save is dropped, as Django does. `SessionModule` registers it for every resolver, and on
 * Nest 12 for every gateway; on Nest 11 a gateway takes it with `@UseInterceptors(SessionInterceptor)`. Routes do the
 * same without it.
 */
@Injectable()
export class SessionInterceptor implements NestInterceptor {
  constructor(private readonly sessions: SessionManager) {}

  /** Routes have none: they are looked after at less cost, see `session-routes.ts`. */
  get intercept(): NestInterceptor['intercept'] {
    return (isBuildingRoute() ? undefined : this.#intercept) as NestInterceptor['intercept'];
  }

  #intercept(
    context: ExecutionContext,
    next: CallHandler,
  ): Observable<unknown> | Promise<Observable<unknown>> {
    if (!hasRequest(context)) return next.handle();
    const at = locate(context);
    // On a route without a session a guard may have opened one all the same.
    const session = skipsSession(context) ? opened(at.owner) : this.sessions.acquire(at);
    if (!session) return next.handle();
    const run = (ready: RequestSession) =>
      context.getType() === 'ws' ? messageSession.run(ready, () => around(ready, next)) : around(ready, next);
    return session instanceof Promise ? session.then(run) : run(session);
  }
}

/**
 * Passes on every value, and the end, once the session is saved: HTTP answers at the end, a socket with each value.
 * Once a response has begun, as an event stream's has with its first event, its hook looks after the session.
 */
function around(session: RequestSession, next: CallHandler): Observable<unknown> {
  const transaction = RequestSession.transactionOf(session);
  const handled = next.handle();
  const unsaved = (): boolean => !transaction.reply.begun && transaction.pending();

  return new Observable((subscriber) => {
    let saving: Promise<void> | undefined;

    function onceSaved(pass: () => void): void {
      if (!saving && !unsaved()) return pass();
      saving = (saving ?? Promise.resolve())
        .then(() => (unsaved() ? transaction.settle() : undefined))
        .then(pass)
        .catch((error: unknown) => subscriber.error(error));
    }

    return handled.subscribe({
      next: (value) => onceSaved(() => subscriber.next(value)),
      error: (error: unknown) => {
        if (isRefusal(error)) return onceSaved(() => subscriber.error(error));
        transaction.discard();
        subscriber.error(error);
      },
      complete: () => onceSaved(() => subscriber.complete()),
    });
  });
}
