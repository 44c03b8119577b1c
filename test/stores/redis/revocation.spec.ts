import { RedisStore } from 'nest-session/redis';
import { inEveryOrder } from './support/command-orders.js';
import { delta, newId, record } from './support/records.js';
import { type Client, settings, startServers } from './support/settings.js';

startServers();

const chosen = settings.filter(({ name }) => !/conveniences|with ioredis 5/.test(name));

describe.each(chosen)('on $name', ({ connect, clear }) => {
  let clients: Client[];
  let [moving, ending, onlooker]: RedisStore[] = [];
  beforeAll(async () => {
    clients = [connect(), connect(), connect()];
    [moving, ending, onlooker] = clients.map((client) => new RedisStore({ client, commandTimeout: 30 }));
    // Each knows what the server can do, and every server knows every script.
    for (let count = 0; count < 50; count++) {
      for (const store of [moving, ending, onlooker]) {
        const [id, next] = [newId(), newId()];
        await store.create(id, record({}, `user-${count}`));
        await store.rotate(id, next, delta());
        await store.listByUser(`user-${count}`);
        await store.destroy(next);
      }
    }
  });
  beforeEach(clear);
  afterAll(() => clients.forEach((client) => client.disconnect()));

  /** As "sign out everywhere": until none was gone that had just been listed. */
  async function signOut(userId: string): Promise<void> {
    for (let missed = true; missed;) {
      const ids = [...(await ending.listByUser(userId)).keys()];
      missed = false;
      // In turns, since who waits for a lock waits for a random time.
      for (const id of ids) if (!(await ending.destroy(id))) missed = true;
    }
  }

  async function session(): Promise<string[]> {
    const [longer, ...ids] = [newId(), newId(), newId(), newId()];
    // The indexes live so long that nobody needs to prolong them, which would be one command more, or not, by the clock.
    await onlooker.create(longer, { ...record({}, 'alice'), expiresAt: Date.now() + 36_000_000 });
    await onlooker.create(ids[0], record({ a: '1' }, 'alice'));
    await onlooker.destroy(longer);
    return ids;
  }

  it('in every order of the commands: a session that moves twice is ended with all of the user’s', async () => {
    const orders = await inEveryOrder(
      clients.slice(0, 2),
      3,
      session,
      ([id, next, last]) => [
        async () => [await moving.rotate(id, next, delta()), await moving.rotate(next, last, delta())],
        () => signOut('alice'),
      ],
      async (ids) => {
        for (const id of ids) expect(await onlooker.load(id)).toBeUndefined();
        expect((await onlooker.listByUser('alice')).size).toBe(0);
      },
    );
    expect(orders).toBeGreaterThan(20);
  }, 240_000);

  it('in every order of the commands: a session that moves once is listed under one of its ids', async () => {
    const orders = await inEveryOrder(
      clients.slice(0, 2),
      3,
      session,
      ([id, next]) => [() => moving.rotate(id, next, delta()), () => ending.listByUser('alice')],
      async ([id, next], [rotated, listed]) => {
        const ids = [...(listed as Map<string, unknown>).keys()];
        expect([rotated, ids.includes(id) || ids.includes(next)]).toEqual(['saved', true]);
        expect([...(await onlooker.listByUser('alice')).keys()]).toEqual([next]);
        expect(await onlooker.destroy(next)).toBe(true);
      },
    );
    expect(orders).toBeGreaterThan(5);
  }, 240_000);

  it('in every order of the commands: what two listings remove of an index is not what a rotation needs', async () => {
    const orders = await inEveryOrder(
      clients,
      2,
      session,
      ([id, next]) => [
        () => moving.rotate(id, next, delta()),
        () => ending.listByUser('alice'),
        () => onlooker.listByUser('alice'),
      ],
      async ([id, next], [, ...lists]) => {
        for (const listed of lists as Map<string, unknown>[]) {
          expect(listed.has(id) || listed.has(next)).toBe(true);
        }
        expect([...(await onlooker.listByUser('alice')).keys()]).toEqual([next]);
        expect(await onlooker.destroy(next)).toBe(true);
      },
    );
    expect(orders).toBeGreaterThan(5);
  }, 240_000);
});
