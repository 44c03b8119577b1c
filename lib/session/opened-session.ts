import { AsyncLocalStorage } from 'node:async_hooks';
import type { ExecutionContext } from '@nestjs/common';
import { SessionUsageError } from '../errors.js';
import { type HttpRequest, locate, type Located } from '../http/request-context.js';
import { slotIn, slotOf } from '../http/slot.js';
import type { RequestSession } from './request-session.js';

/** The session that has been opened, or is being opened, for a request or a socket message. */
export function opened(owner: object): RequestSession | Promise<RequestSession> | undefined {
  return slotIn(owner)?.session as RequestSession | Promise<RequestSession> | undefined;
}

export function remember(owner: object, session: RequestSession | Promise<RequestSession>): void {
  slotOf(owner).session = session;
}

/** As `request.session`, on Fastify's request and on the bare one that its middleware gets. */
export function expose(session: RequestSession, { owner, request }: Located): void {
  if (request.session !== session) request.session = session;
  if (owner !== request && 'headers' in owner) (owner as HttpRequest).session = session;
}

/** Gives all requests of an Express application `request.session` at once: on each, the property would cost more. */
export function exposeOn(prototype: object): void {
  Object.defineProperty(prototype, 'session', {
    configurable: true,
    get(this: object) {
      const session = opened(this);
      return session instanceof Promise ? undefined : session;
    },
    set(this: object, value: unknown) {
      Object.defineProperty(this, 'session', { value, configurable: true, enumerable: true, writable: true });
    },
  });
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
