import { RedisStore } from 'nest-session/redis';
import { type Session, SessionManager } from 'nest-session';
import { SECRET } from '../../support/app.js';
import { distinctOrders, runAll, Running, triples } from '../../support/interleavings.js';
import { managerOf } from '../../support/manager.js';
import { delta, newId, record } from './support/records.js';
import { type Client, settings, startServers } from './support/settings.js';

startServers();

type Act = (session: Session<any>) => unknown;

const chosen = settings.filter(({ name }) => !/conveniences|, with ioredis 5$/.test(name));

describe.each(chosen)('on $name', ({ connect, clear }) => {
  let clients: Client[];
  let stores: RedisStore[];
  beforeAll(async () => {
    clients = [connect(), connect(), connect()];
    stores = clients.map((client) => new RedisStore({ client }));
    await Promise.all(stores.map((store) => store.count()));
  });
  beforeEach(clear);
  afterAll(() => clients.forEach((client) => client.disconnect()));

  /** Does things at the same time, each from another process's point of view. */
  async function together<const T extends readonly ((store: RedisStore) => Promise<unknown>)[]>(
    ...doings: T
  ): Promise<{ [K in keyof T]: Awaited<ReturnType<T[K]>> }> {
    const turns = doings.map(async (doing, position) => {
      // Any order of arrival, since which one comes first is up to the network.
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 2));
      return doing(stores[position % stores.length]);
    });
    return (await Promise.all(turns)) as { [K in keyof T]: Awaited<ReturnType<T[K]>> };
  }

  const rounds = Array.from({ length: 100 }, () => ({ id: newId(), first: newId(), second: newId() }));
  const [store] = [() => stores[0]];

  it('commits of different fields are all there', async () => {
    for (const { id } of rounds) {
      await store().create(id, record({}));
      const names = ['a', 'b', 'c', 'd', 'e', 'f'];
      const commit = (name: string) => (on: RedisStore) => on.commit(id, delta({ [name]: name }));
      expect(await together(...names.map(commit))).toEqual(names.map(() => 'saved'));
      expect(Object.keys(Object.fromEntries((await store().load(id))?.fields ?? [])).toSorted()).toEqual(
        names,
      );
    }
  });

  it('of two creations one is made', async () => {
    for (const { id } of rounds) {
      const made = await together(
        (on) => on.create(id, record({ by: 'one' })),
        (on) => on.create(id, record({ by: 'two' })),
      );
      expect(made.toSorted()).toEqual(['created', 'exists']);
      expect((await store().load(id))?.fields.get('by')).toBe(made[0] === 'created' ? 'one' : 'two');
    }
  });

  it('a commit beside a destruction leaves nothing', async () => {
    for (const { id } of rounds) {
      await store().create(id, record());
      const [, destroyed] = await together(
        (on) => on.commit(id, delta({ b: '2' }, ['a'])),
        (on) => on.destroy(id),
        (on) => on.touch(id, Date.now() + 7_200_000),
      );
      expect([destroyed, await store().load(id)]).toEqual([true, undefined]);
    }
  });

  it('of two rotations one wins, whatever a commit beside them is told holds, and there is one session', async () => {
    for (const { id, first, second } of rounds) {
      await store().create(id, record({ a: '1' }, 'alice'));
      const [one, two, committed] = await together(
        (on) => on.rotate(id, first, delta({ by: 'one' })),
        (on) => on.rotate(id, second, delta({ by: 'two' })),
        (on) => on.commit(id, delta({ late: '1' })),
      );
      expect([one, two].toSorted()).toEqual(['gone', 'saved']);
      const [winner, loser] = one === 'saved' ? [first, second] : [second, first];
      expect(await store().load(id)).toBeUndefined();
      expect(await store().load(loser)).toBeUndefined();
      const { fields } = (await store().load(winner)) ?? record({});
      expect(Object.fromEntries(fields)).toEqual({
        a: '1',
        by: one === 'saved' ? 'one' : 'two',
        ...(committed === 'saved' && { late: '1' }),
      });
    }
    expect([...(await store().listByUser('alice')).keys()]).toHaveLength(rounds.length);
  });

  it('a rotation beside a destruction: nothing is left, or the destruction found nothing', async () => {
    for (const { id, first } of rounds) {
      await store().create(id, record({}, 'alice'));
      const [rotated, destroyed] = await together(
        (on) => on.rotate(id, first, delta()),
        (on) => on.destroy(id),
      );
      expect(await store().load(id)).toBeUndefined();
      expect(destroyed).toBe(rotated === 'gone');
      expect((await store().load(first)) !== undefined).toBe(rotated === 'saved');
    }
  });

  describe('"sign out everywhere"', () => {
    const managers = (): SessionManager[] => stores.map((each) => managerOf({ secret: SECRET, store: each }));

    async function request(on: SessionManager, cookie: string, act: Act = () => {}): Promise<string> {
      const running = new Running(on, `session_id=${cookie}`, { act });
      await running.run();
      return running.cookie || cookie;
    }

    async function isLoggedIn(on: SessionManager, cookie: string): Promise<boolean> {
      let userId: string | undefined;
      await request(on, cookie, (session) => (userId = session.userId));
      return userId !== undefined;
    }

    it('beside one request of each session that regenerates: none of 60 is left', async () => {
      const [app, other, admin] = managers();
      for (let round = 0; round < 3; round++) {
        const cookies = await Promise.all(
          Array.from({ length: 60 }, () => request(app, '', (session) => session.login('alice'))),
        );
        const [moved] = await Promise.all([
          Promise.all(
            cookies.map((cookie, one) =>
              request(one % 2 ? app : other, cookie, (session) => session.regenerate()),
            ),
          ),
          admin.revokeByUser('alice'),
        ]);
        const left = await Promise.all([...cookies, ...moved].map((cookie) => isLoggedIn(app, cookie)));
        expect(left.filter(Boolean)).toEqual([]);
        expect(await admin.listByUser('alice')).toEqual([]);
      }
    });

    it('a thief who regenerates without a break is out, 40 times of 40', async () => {
      const [app, , admin] = managers();
      for (let round = 0; round < 40; round++) {
        let cookie = await request(app, '', (session) => session.login('alice'));
        let [isRevoked, afterwards] = [false, 0];
        const thief = (async () => {
          // Ends: once more after the revocation, at the latest.
          while (afterwards === 0) {
            if (isRevoked) afterwards++;
            cookie = await request(app, cookie, (session) => session.regenerate());
          }
        })();
        await admin.revokeByUser('alice');
        isRevoked = true;
        await thief;
        expect([round, await isLoggedIn(app, cookie)]).toEqual([round, false]);
      }
      expect(await admin.listByUser('alice')).toEqual([]);
    });
  });

  it('a login beside a listing is listed afterwards', async () => {
    for (const { id } of rounds) {
      await store().create(id, record());
      await together(
        (on) => on.commit(id, delta({}, [], { userId: 'bob' })),
        (on) => on.listByUser('bob'),
        (on) => on.listByUser('bob'),
      );
      expect([...(await store().listByUser('bob')).keys()]).toContain(id);
    }
  });

  it.each(triples.map(([names, check]) => [names.join(', '), names, check] as const))(
    'every interleaving of a request that %s',
    async (_, names, check) => {
      const newStore = async (): Promise<RedisStore> => {
        await clear();
        return stores[0];
      };
      expect(await runAll(newStore, names, check, distinctOrders(names))).toBeGreaterThan(0);
    },
    120_000,
  );
});
