import { stateIn } from './request-state.js';
import { hookPrototype } from './response-steps.js';
import { rememberAdapter, type SeenRequest } from './seen-by-adapter.js';

/** An Express application: the prototypes that it gives to its requests and responses. */
interface Express {
  readonly request: object;
  readonly response: object;
}

/**
 * Prepares an Express application: its requests have `session`, its responses lead to their hooks, and upgrades of its
 * server are seen by its `trust proxy`.
 */
export function prepareExpress({ request, response }: Express, server: object): void {
  exposeSession(request);
  // That of all Express applications: one of them may be called on the way, and gives the response its own prototype.
  hookPrototype(Object.getPrototypeOf(response) as object);
  rememberAdapter(
    server,
    ({ headers, socket }) =>
      Object.create(request, { headers: { value: headers }, socket: { value: socket } }) as SeenRequest,
  );
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
