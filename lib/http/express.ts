import { stateIn } from './request-state.js';
import { hookPrototype } from './response-hook.js';

/** An Express application: the prototypes that it gives to its requests and responses. */
interface Express {
  readonly request: object;
  readonly response: object;
}

/**
 * Prepares an Express application: its requests have `session`, its responses lead to their hooks.
 *
 * Both are put on the application's prototypes, once. Express gives each request and response such a prototype, after
 * which V8 needs about a microsecond for each property that is added to one. And what middleware puts on a response
 * comes over the prototype, so a response that is held looks to compression and its like as Node's own would.
 */
export function prepareExpress(app: Express): void {
  exposeSession(app.request);
  hookPrototype(app.response);
}

/** Gives way to whoever sets `request.session`: the property is then theirs. */
function exposeSession(prototype: object): void {
  Object.defineProperty(prototype, 'session', {
    configurable: true,
    get(this: object) {
      const session = stateIn(this)?.firstSession;
      return session instanceof Promise ? undefined : session;
    },
    set(this: object, value: unknown) {
      Object.defineProperty(this, 'session', { value, configurable: true, enumerable: true, writable: true });
    },
  });
}
