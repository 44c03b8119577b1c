import cookie from '@fastify/cookie';
import session from '@fastify/session';
import { RedisStore } from 'connect-redis';
import { createClient } from 'redis';
import { propertyHandlers } from './property-handlers.mjs';
import { attributes, DAY, SECRET } from './shared.mjs';

/** @fastify/session; without `saveUninitialized: false` and `rolling: false` it would write with every request. */
export async function library({ store, redisUrl }) {
  const redis = store === 'redis' ? await createClient({ url: redisUrl }).connect() : undefined;
  const options = {
    secret: SECRET,
    saveUninitialized: false,
    rolling: false,
    cookie: { ...attributes, maxAge: DAY * 1000 },
    ...(redis && { store: new RedisStore({ client: redis }) }),
  };
  return {
    handlers: propertyHandlers,
    prepare: async (app) => {
      await app.register(cookie);
      await app.register(session, options);
    },
    close: () => redis?.close(),
  };
}
