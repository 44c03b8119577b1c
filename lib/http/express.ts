import { stateIn } from './request-state.js';

/**
 * Prepares an Express application: its requests have `session`, from their prototype. Express gives each request such a
 * prototype, after which V8 needs about a microsecond for each property that is added to one.
 *
 * Gives way to whoever sets `request.session`: the property is then theirs.
 */
export function prepareExpress({ request }: { readonly request: object }): void {
  Object.defineProperty(request, 'session', {
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
