import { createParamDecorator, type ExecutionContext, SetMetadata } from '@nestjs/common';
import { fromSession } from '../session/opened-session.js';
import type { Session as SessionOfRequest } from '../session/session.js';
import type { SessionData } from '../options/session-data.js';

/** {@inheritDoc SessionOfRequest} */
export interface Session<T extends object = SessionData> extends SessionOfRequest<T> {}

/**
 * The session of the request, or one value of it.
 *
 * ```ts
 * show(@Session() session: Session, @Session('theme') theme?: string) {}
 * ```
 */
export const Session: (key?: keyof SessionData) => ParameterDecorator = createParamDecorator(
  (key: keyof SessionData | undefined, context: ExecutionContext): unknown =>
    fromSession(context, (session) => (key === undefined ? session : session.get(key))),
);

/**
 * The flash messages, or one of them, which is thereby read and consumed.
 *
 * ```ts
 * show(@Flash() flash: FlashMessages, @Flash('error') error?: string) {}
 * ```
 */
export const Flash: (key?: string) => ParameterDecorator = createParamDecorator(
  (key: string | undefined, context: ExecutionContext): unknown =>
    fromSession(context, ({ flash }) => (key === undefined ? flash : flash.get(key))),
);

const SKIP_SESSION = 'nest-session:skip';

/** A route, or a controller's routes, without a session: its cookie is not read and no store is asked. */
export const SkipSession = (): MethodDecorator & ClassDecorator => SetMetadata(SKIP_SESSION, true);

/** What is known of handlers, by their class: a request is not worth two searches of metadata. */
const skipping = new WeakMap<object, WeakMap<object, boolean>>();

/** @internal */
export function skipsSession(context: ExecutionContext): boolean {
  const [controller, handler] = [context.getClass(), context.getHandler()];
  let handlers = skipping.get(controller);
  if (!handlers) skipping.set(controller, (handlers = new WeakMap()));
  let skips = handlers.get(handler);
  if (skips === undefined) {
    skips = Reflect.hasMetadata(SKIP_SESSION, handler) || Reflect.hasMetadata(SKIP_SESSION, controller);
    handlers.set(handler, skips);
  }
  return skips;
}
