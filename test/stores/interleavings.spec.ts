import { CookieStore, MemoryStore, type SessionStore } from 'nest-session';
import { MigratingStore } from '../../lib/stores/migrating.store.js';
import { distinctOrders, runAll, triples } from '../support/interleavings.js';

const stores: readonly [string, () => SessionStore][] = [
  ['MemoryStore', () => new MemoryStore()],
  ['CookieStore', () => new CookieStore({ revocations: new MemoryStore() })],
  ['a store that sessions move to', () => new MigratingStore(new MemoryStore(), new MemoryStore())],
];

describe.each(stores)('every interleaving that %s can tell from another', (_, newStore) => {
  it.each(triples.map(([names, check]) => [names.join(', '), names, check] as const))(
    'of a request that %s',
    async (__, names, check) => {
      expect(await runAll(newStore, names, check, distinctOrders(names))).toBeGreaterThanOrEqual(90);
    },
    60_000,
  );
});
