import { CookieStore, MemoryStore, type SessionStore } from 'nest-session';
import { MigratingStore } from '../../lib/stores/migrating.store.js';
import { CookieJar } from '../support/cookie-jar.js';
import { answersAsTheModel } from '../support/store-property.js';
import { removeTemporary, temporaryFileStore } from '../support/temporary.js';

type NewStore = (clock: () => number) => SessionStore | Promise<SessionStore>;

afterAll(removeTemporary);

it.each<[name: string, newStore: NewStore, runs?: number]>([
  ['FileStore', (clock) => temporaryFileStore({ clock }), 60],
  ['CookieStore, for what one process holds,', (clock) => new CookieStore({ clock })],
  ['CookieStore in a browser', (clock) => new CookieJar(clock, new MemoryStore({ clock }), 3)],
  [
    'store that sessions move to',
    (clock) => new MigratingStore(new MemoryStore({ clock }), new MemoryStore({ clock })),
  ],
])(
  'whatever is done to a %s, it answers as the model does, step by step',
  async (...[, newStore, runs]) => {
    await expect(answersAsTheModel(newStore, runs)).resolves.toBeUndefined();
  },
  120_000,
);
