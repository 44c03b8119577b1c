import {
  type CallHandler,
  type ExecutionContext,
  HttpException,
  Injectable,
  type NestInterceptor,
} from '@nestjs/common';
import { Observable, type Subscriber } from 'rxjs';
import { hasRequest, locate } from '../http/request-context.js';
import { messageSession, opened } from './opened-session.js';
import { RequestSession } from './request-session.js';
import { SessionManager } from './session-manager.js';
import { skipsSession } from './session.decorators.js';

/**
 * Saves the session when the handler completes, before Nest writes the response.
 *
 * After an HttpException below 500 the session is saved as well: refusing is an answer. After any other error what
 * the handler wrote and did not save is dropped, as Django does. `SessionModule` registers it for every route;
 * gateways, which global interceptors do not reach, take it with `@UseInterceptors(SessionInterceptor)`.
 */
@Injectable()
export class SessionInterceptor implements NestInterceptor {
  constructor(private readonly sessions: SessionManager) {}

  intercept(
    context: ExecutionContext,
    next: CallHandler,
  ): Observable<unknown> | Promise<Observable<unknown>> {
    const isMessage = context.getType() === 'ws';
    if (!isMessage && !hasRequest(context)) return next.handle();
    const at = locate(context);
    // On a route without a session a guard may have opened one all the same.
    const session = skipsSession(context) ? opened(at.owner) : this.sessions.acquire(at);
    if (!session) return next.handle();
    const run = (ready: RequestSession) =>
      isMessage ? messageSession.run(ready, () => around(ready, next)) : around(ready, next);
    return session instanceof Promise ? session.then(run) : run(session);
  }
}

/** Passes values on as they come, and completion once the session is saved: an event stream is saved once. */
function around(session: RequestSession, next: CallHandler): Observable<unknown> {
  const transaction = RequestSession.transactionOf(session);
  const handled = next.handle();

  /** Runs `then` when the session is saved; at once when there is nothing to save or the response is under way. */
  function save(subscriber: Subscriber<unknown>, then: () => void): void {
    if (transaction.answering || !transaction.pending()) return then();
    transaction.settle().then(then, (error: unknown) => subscriber.error(error));
  }

  return new Observable((subscriber) =>
    handled.subscribe({
      next: (value) => subscriber.next(value),
      error: (error: unknown) => {
        if (error instanceof HttpException && error.getStatus() < 500) {
          save(subscriber, () => subscriber.error(error));
        } else {
          transaction.discard();
          subscriber.error(error);
        }
      },
      complete: () => save(subscriber, () => subscriber.complete()),
    }),
  );
}
