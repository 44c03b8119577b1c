import {
  type CallHandler,
  type ExecutionContext,
  HttpException,
  Injectable,
  type NestInterceptor,
} from '@nestjs/common';
import { Observable } from 'rxjs';
import { hasRequest, isRequest, locate, locateRequest } from '../http/request-context.js';
import { messageSession } from '../session/opened-session.js';
import { RequestSession } from '../session/request-session.js';
import { skipsSession } from './session.decorators.js';
import { SessionManager } from '../session/session-manager.js';
import type { SessionTransaction } from '../session/session-transaction.js';

/**
 * Saves the session when a handler has answered, before Nest sends the answer: a save that fails reaches the exception
 * filters.
 *
 * After an HttpException below 500 the session is saved as well: refusing is an answer. After any other error what
 * the handler wrote and did not save is dropped, as Django does. `SessionModule` registers it for every route and
 * resolver, and on Nest 12 for every gateway; on Nest 11 a gateway takes it with
 * `@UseInterceptors(SessionInterceptor)`.
 */
@Injectable()
export class SessionInterceptor implements NestInterceptor {
  constructor(private readonly sessions: SessionManager) {}

  intercept(
    context: ExecutionContext,
    next: CallHandler,
  ): Observable<unknown> | Promise<Observable<unknown>> {
    if (!hasRequest(context)) return next.handle();
    const at = locate(context);
    // On a route without a session a guard may have opened one all the same.
    const session = skipsSession(context) ? this.sessions.opened(at) : this.sessions.openNow(at);
    if (!session) return next.handle();
    const run = (ready: RequestSession): Observable<unknown> => {
      const transaction = RequestSession.transactionOf(ready);
      if (context.getType() === 'http') transaction.saving.beginTry();
      return context.getType() === 'ws'
        ? messageSession.run(ready, () => savedWith(transaction, next.handle()))
        : savedWith(transaction, next.handle());
    };
    return session instanceof Promise ? session.then(run) : run(session);
  }

  /** @internal The transaction of a route's request, if its session is open: `SessionLoaderGuard` has seen to it. */
  transactionOf(request: unknown, response: unknown): SessionTransaction | undefined {
    if (!isRequest(request)) return undefined;
    const session = this.sessions.opened(locateRequest(request, response));
    return session && !(session instanceof Promise) ? RequestSession.transactionOf(session) : undefined;
  }
}

/**
 * Passes on every value of a handler, and the end, once the session is saved: HTTP answers at the end, a socket with
 * each value. Waits at most once for each of them.
 */
export function savedWith(transaction: SessionTransaction, values: Observable<unknown>): Observable<unknown> {
  return new Observable((subscriber) => {
    transaction.saving.handlerBegins();
    let saving: Promise<void> | undefined;

    function onceSaved(pass: () => void): void {
      const next = saving ? saving.then(() => savedAnswer(transaction)) : savedAnswer(transaction);
      if (!next) return pass();
      saving = next.then(pass);
      saving.catch((error: unknown) => subscriber.error(error));
    }

    const subscription = values.subscribe({
      next: (value) => onceSaved(() => subscriber.next(value)),
      error: (error: unknown) => {
        if (isRefusal(error)) return onceSaved(() => subscriber.error(error));
        transaction.saving.handlerFailed();
        subscriber.error(error);
      },
      complete: () => onceSaved(() => subscriber.complete()),
    });
    return () => {
      transaction.saving.handlerEnds();
      subscription.unsubscribe();
    };
  });
}

/**
 * Saves the session of a handler that has answered; undefined if there is nothing to save. Once a response has begun
 * its end saves. If saving fails nothing of the handler is saved later, and the error is the answer.
 */
export function savedAnswer(transaction: SessionTransaction): Promise<void> | undefined {
  if (transaction.reply.begun) return undefined;
  return transaction.saving.saved()?.catch((error: unknown) => {
    transaction.saving.handlerFailed();
    throw error;
  });
}

/** Refusing is an answer, and what was written goes with it; a failure is none. */
export function isRefusal(error: unknown): boolean {
  return error instanceof HttpException && error.getStatus() < 500;
}
