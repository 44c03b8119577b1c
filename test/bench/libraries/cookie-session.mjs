import cookieSession from 'cookie-session';
import { propertyHandlers } from './property-handlers.mjs';
import { attributes, DAY, SECRET } from './shared.mjs';

/** cookie-session signs what it puts into the cookie; it does not encrypt it. */
export function library() {
  const middleware = cookieSession({ keys: [SECRET], ...attributes, maxAge: DAY * 1000 });
  return { handlers: propertyHandlers, prepare: (app) => app.use(middleware) };
}
