import { AsyncLocalStorage } from 'node:async_hooks';
import type { ExecutionContext } from '@nestjs/common';
import { SessionUsageError } from '../errors.js';
import { locate } from '../http/request-context.js';
import type { RequestSession } from './request-session.js';

const OPENED = Symbol('nest-session opened');

interface Owner {
  [OPENED]?: RequestSession | Promise<RequestSession>;
}

/** The session that has been opened, or is being opened, for a request or a socket message. */
export function opened(owner: object): RequestSession | Promise<RequestSession> | undefined {
  return (owner as Owner)[OPENED];
}

export function remember(owner: object, session: RequestSession | Promise<RequestSession>): void {
  (owner as Owner)[OPENED] = session;
}

/** The session of the socket message being handled: Nest gives its parameters nothing else to know it by. */
export const messageSession = new AsyncLocalStorage<RequestSession>();

/** The session for a parameter of a handler; an error that says what to do if none was opened. */
export function sessionFor(context: ExecutionContext): RequestSession {
  const { owner } = locate(context);
  const session = context.getType() === 'ws' ? messageSession.getStore() : opened(owner);
  if (session && !(session instanceof Promise)) return session;
  throw new SessionUsageError(
    'No session was opened for this handler. Is SessionModule imported in the root module, and the handler free of ' +
      '@SkipSession()?' +
      (context.getType() === 'ws'
        ? ' On Nest 11 global interceptors do not reach gateways: put @UseInterceptors(SessionInterceptor) on this one.'
        : ''),
  );
}
