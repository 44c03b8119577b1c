import { CookieStore, MemoryStore, Session, SessionModule, SkipSession } from '../../../dist/index.js';
import { sixKeys } from '../six-keys.mjs';
import { attributes, DAY, NAME, nextValue, SECRET } from './shared.mjs';

const stores = {
  memory: () => new MemoryStore(),
  cookie: () => new CookieStore(),
  redis: async (redisUrl, cache) => {
    const { RedisStore } = await import('../../../dist/stores/redis/index.js');
    return RedisStore.fromUrl(redisUrl, cache && { cache: { maxSessions: 10_000 } });
  },
};

/** nest-session with its defaults, loaded from dist/ as it is shipped. */
export async function library({ store, redisUrl, cache }) {
  const module = SessionModule.forRoot({
    secret: SECRET,
    store: await stores[store](redisUrl, cache),
    maxAge: DAY,
    cookie: attributes,
  });
  return { imports: [module], handlers };
}

const handlers = {
  create: {
    takes: [Session()],
    answer: (session) => session.update(sixKeys(nextValue())).get('name'),
  },
  read: { takes: [Session('name')], answer: (name) => name ?? 'nobody' },
  write: {
    takes: [Session()],
    answer: (session) => {
      session.set('visits', nextValue());
      return 'saved';
    },
  },
  visits: { takes: [Session('visits')], answer: String },
  skip: { decorators: [SkipSession()], answer: () => NAME },
};
