import { CookieStore, MemoryStore, type SessionStore } from 'nest-session';
import { describeSessionStore, type StorePower } from 'nest-session/testing';
import { MigratingStore } from '../../lib/stores/migrating.store.js';
import { CookieJar } from '../support/cookie-jar.js';
import { removeTemporary, temporaryFileStore } from '../support/temporary.js';

const ALL: readonly StorePower[] = ['listByUser', 'count', 'clear', 'sweep'];

describeSessionStore('MemoryStore', (clock) => new MemoryStore({ clock }), [...ALL, 'close']);

describeSessionStore('FileStore', (clock) => temporaryFileStore({ clock }), [...ALL, 'close', 'ping']);
describeSessionStore('a durable FileStore', (clock) => temporaryFileStore({ clock, durable: true }), [
  ...ALL,
  'close',
  'ping',
]);
afterAll(removeTemporary);

describeSessionStore('a CookieStore, for what one process holds,', (clock) => new CookieStore({ clock }), [
  'adopt',
]);

describeSessionStore('a CookieStore with revocations, for what one process holds,', (clock) => {
  return new CookieStore({ clock, revocations: new MemoryStore({ clock }) });
});

describeSessionStore(
  'a CookieStore, its cookies in a browser,',
  (clock) => new CookieJar(clock, new MemoryStore({ clock }), 3),
);

describeSessionStore(
  'a store that sessions move to',
  (clock) => new MigratingStore(new MemoryStore({ clock }), new MemoryStore({ clock })),
  ALL,
);

describeSessionStore(
  'a store that sessions move out of',
  (clock) => {
    const [to, from] = [new MemoryStore({ clock }), new MemoryStore({ clock })];
    const create: SessionStore['create'] = async (id, record) =>
      (await to.load(id)) ? 'exists' : from.create(id, record);
    return Object.assign(new MigratingStore(to, from), { create });
  },
  ALL,
);
