import { AsyncLocalStorage } from 'node:async_hooks';
import type { ExecutionContext } from '@nestjs/common';
import { SessionUsageError } from '../errors.js';
import { type HttpRequest, locate, type Located, ownerOf } from '../http/request-context.js';
import { stateIn, stateOf } from '../http/request-state.js';
import { RequestSession } from './request-session.js';
import type { SessionRuntime } from './session-runtime.js';

type Opened = RequestSession | Promise<RequestSession> | undefined;

/** The session that has been opened, or is being opened, for a request or a socket message. */
export function opened(owner: object, runtime: SessionRuntime): Opened {
  return stateIn(owner)?.session(runtime) as Opened;
}

export function remember(
  owner: object,
  runtime: SessionRuntime,
  session: RequestSession | Promise<RequestSession>,
): void {
  stateOf(owner).remember(runtime, session);
}

/**
 * Puts the session on the request, as `request.session`: on Fastify's request and on the bare one that its middleware
 * gets. Express's requests have it from their prototype.
 *
 * A property that is there belongs to somebody else, and stays. False if it does.
 */
export function expose(session: RequestSession, { owner, request }: Located): boolean {
  let isOurs = exposeOn(request, session);
  if (owner !== request && 'headers' in owner) isOurs = exposeOn(owner as HttpRequest, session) && isOurs;
  return isOurs;
}

function exposeOn(request: HttpRequest, session: RequestSession): boolean {
  // Asked once: on Express each such question costs microseconds.
  const present = request.session;
  if (present === session) return true;
  // A handshake's request gets the session of each message.
  const isOlder = present instanceof RequestSession && present.isOfSameModule(session);
  if (!isOlder && 'session' in request) return false;
  request.session = session;
  return true;
}

/** The session of the socket message being handled: Nest gives its parameters nothing else to know it by. */
export const messageSession = new AsyncLocalStorage<RequestSession>();

type Opener = (at: Located) => RequestSession | Promise<RequestSession>;

/** Who has opened the session of a handshake. */
const openers = new WeakMap<object, Opener>();

/** Notes who opens the sessions of a socket, for what Nest runs without a guard that does so. */
export function rememberOpener({ request, response }: Located, open: Opener): void {
  if (!response) openers.set(ownerOf(request), open);
}

/**
 * What a parameter of a handler is to be; an error that says what to do if no session was opened.
 *
 * Fields of a subscription's event have neither guards nor interceptors: there it is opened now, and Nest waits.
 */
export function fromSession<T>(
  context: ExecutionContext,
  read: (session: RequestSession) => T,
): T | Promise<T> {
  const at = locate(context);
  const type = context.getType<string>();
  const session = type === 'ws' ? messageSession.getStore() : (stateIn(at.owner)?.firstSession as Opened);
  if (session && !(session instanceof Promise)) return read(session);
  const opening = type === 'graphql' ? openers.get(ownerOf(at.request))?.(at) : undefined;
  if (opening) return opening instanceof Promise ? opening.then(read) : read(opening);
  throw new SessionUsageError(
    'No session was opened for this handler. Is SessionModule imported in the root module, and the handler free of ' +
      '@SkipSession()?' +
      (type === 'ws'
        ? ' On Nest 11 global interceptors do not reach gateways: put @UseInterceptors(SessionInterceptor) on this one.'
        : ''),
  );
}
