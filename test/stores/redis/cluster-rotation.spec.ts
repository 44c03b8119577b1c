import { Cluster } from 'ioredis';
import { RedisStore } from 'nest-session/redis';
import { RedisCluster } from './support/redis-cluster.js';
import { delta, newId, outcome, record } from './support/records.js';

let cluster: RedisCluster;
let rotating: Cluster;
let store: RedisStore;
let other: Cluster;
let beside: RedisStore;
beforeAll(async () => {
  cluster = await RedisCluster.start();
  [rotating, other] = [new Cluster(cluster.addresses), new Cluster(cluster.addresses)];
  [store, beside] = [rotating, other].map((client) => new RedisStore({ client, scripting: true }));
  await beside.ping();
  // Every server knows every script afterwards, so that each is one command below.
  for (let count = 0; count < 50; count++) {
    const [id, next] = await session();
    await store.rotate(id, next, rotation);
    await store.commit(next, rotation);
    await store.destroy(next);
  }
});
afterAll(async () => {
  [rotating, other].forEach((client) => client.disconnect());
  await cluster.stop();
});

/** Has something happen before each command of this client's, of which the first is number 1. */
function beforeEachCommand(happen: (number: number) => Promise<unknown> | void): void {
  let number = 0;
  const call = Cluster.prototype.call.bind(rotating);
  rotating.call = (async (...sent: Parameters<Cluster['call']>) => {
    await happen(++number);
    return call(...sent);
  }) as Cluster['call'];
}
afterEach(() => {
  rotating.call = Cluster.prototype.call;
});

/** A session, and an id for it to move to. */
async function session(): Promise<[string, string]> {
  const [id, next] = [newId(), newId()];
  expect(await store.create(id, record({ a: '1' }, 'alice'))).toBe('created');
  return [id, next];
}

const fieldsOf = async (id: string): Promise<Record<string, string> | undefined> => {
  const found = await store.load(id);
  return found && Object.fromEntries(found.fields);
};
const rotation = delta({ b: '2' }, ['a']);
const steps = [1, 2, 3, 4, 5, 6, 7];

it('takes four commands for the record', async () => {
  const [id, next] = await session();
  let commands = 0;
  beforeEachCommand((number) => void (commands = number));
  expect(await store.rotate(id, next, rotation)).toBe('saved');
  expect(commands - 2).toBe(4); // two more for the user's index
});

it.each(steps)('a process that dies before command %d leaves the session in one place', async (step) => {
  const [id, next] = await session();
  beforeEachCommand((number) => {
    if (number >= step) throw new Error('dead');
  });
  const rotated = await outcome(store.rotate(id, next, rotation));
  rotating.call = Cluster.prototype.call;
  const there = [await fieldsOf(id), await fieldsOf(next)];
  // Until it is taken from there, it is where it was; a copy that may lie there already has an id nobody knows.
  const copy = step === 3 ? { b: '2' } : undefined;
  expect(there).toEqual(step <= 3 ? [{ a: '1' }, copy] : [undefined, { b: '2' }]);
  expect(rotated === 'saved').toBe(step >= 5); // the old entry of the index is removed by whoever reads it
});

it.each(steps)(
  'a commit before command %d is in the new record, or told that it came too late',
  async (step) => {
    const [id, next] = await session();
    const late = delta({ late: '1', b: '0' }, [], { userId: 'bob', expiresAt: Date.now() + 7_200_000 });
    let committed: unknown;
    beforeEachCommand(async (number) => {
      if (number === step) committed = await beside.commit(id, late);
    });
    expect(await store.rotate(id, next, rotation)).toBe('saved');
    committed ??= await beside.commit(id, late);
    expect(committed).toBe(step <= 3 ? 'saved' : 'gone');
    expect(await fieldsOf(id)).toBeUndefined();
    expect(await fieldsOf(next)).toEqual({ b: '2', ...(step <= 3 && { late: '1' }) });
    expect((await store.load(next))?.userId).toBe(step <= 3 ? 'bob' : 'alice');
    expect((await store.load(next))?.expiresAt === late.header.expiresAt).toBe(step <= 3);
    expect((await store.listByUser(step <= 3 ? 'bob' : 'alice')).has(next)).toBe(true);
  },
);

it.each(steps)('a destruction before command %d leaves nothing, or finds nothing', async (step) => {
  const [id, next] = await session();
  let destroyed: unknown;
  beforeEachCommand(async (number) => {
    if (number === step) destroyed = await beside.destroy(id);
  });
  const rotated = await store.rotate(id, next, rotation);
  destroyed ??= await beside.destroy(id);
  expect([destroyed, rotated]).toEqual(step <= 3 ? [true, 'gone'] : [false, 'saved']);
  expect(await fieldsOf(id)).toBeUndefined();
  expect(await fieldsOf(next)).toEqual(step <= 3 ? undefined : { b: '2' });
});

it.each(steps)('of another rotation before command %d and this one, one wins', async (step) => {
  const [id, next] = await session();
  const third = newId();
  let won: unknown;
  beforeEachCommand(async (number) => {
    if (number === step) won = await beside.rotate(id, third, delta({ c: '3' }));
  });
  const rotated = await store.rotate(id, next, rotation);
  won ??= await beside.rotate(id, third, delta({ c: '3' }));
  expect([won, rotated]).toEqual(step <= 3 ? ['saved', 'gone'] : ['gone', 'saved']);
  const [old, mine, others] = [await fieldsOf(id), await fieldsOf(next), await fieldsOf(third)];
  expect(old).toBeUndefined();
  expect([mine, others]).toEqual(step <= 3 ? [undefined, { a: '1', c: '3' }] : [{ b: '2' }, undefined]);
});

it('a new record whose rotation is refused is removed', async () => {
  const [id, next] = await session();
  beforeEachCommand((number) => {
    if (number === 3) throw new Error('refused');
  });
  await expect(store.rotate(id, next, rotation)).rejects.toThrow('refused');
  expect([await fieldsOf(id), await fieldsOf(next)]).toEqual([{ a: '1' }, undefined]);
});
