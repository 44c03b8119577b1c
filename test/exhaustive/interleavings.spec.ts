import { MemoryStore } from 'nest-session';
import { everyOrder, runAll, triples } from '../support/interleavings.js';

describe('every interleaving over MemoryStore', () => {
  it.each(triples.map(([names, check]) => [names.join(', '), names, check] as const))(
    'of a request that %s',
    async (_, names, check) => {
      expect(await runAll(() => new MemoryStore(), names, check, everyOrder())).toBe(34_650);
    },
    300_000,
  );
});
