import { RedisStore } from 'connect-redis';
import session from 'express-session';
import { createClient } from 'redis';
import { propertyHandlers } from './property-handlers.mjs';
import { attributes, DAY, SECRET } from './shared.mjs';

/** express-session as its documentation and that of connect-redis recommend: nothing saved that did not change. */
export async function library({ store, redisUrl }) {
  const redis = store === 'redis' ? await createClient({ url: redisUrl }).connect() : undefined;
  const middleware = session({
    secret: SECRET,
    resave: false,
    saveUninitialized: false,
    cookie: { ...attributes, maxAge: DAY * 1000 },
    ...(redis && { store: new RedisStore({ client: redis }) }),
  });
  return { handlers: propertyHandlers, prepare: (app) => app.use(middleware), close: () => redis?.close() };
}
