import * as fc from 'fast-check';
import { ShardedMap } from '../../../lib/stores/memory/sharded-map.js';

describe('the sharded map', () => {
  it('is a Map, whatever is done to it', () => {
    const key = fc.oneof(
      fc.constantFrom('', 'a', 'aa', 'ab', 'ba', '\u0000', '\uffff\uffff', '__proto__'),
      fc.string({ maxLength: 3 }),
    );
    const step = fc.tuple(fc.constantFrom('set', 'set', 'set', 'delete', 'clear?'), key, fc.integer());
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100, size: 'max' }), (steps) => {
        const sharded = new ShardedMap<number>();
        const map = new Map<string, number>();
        for (const [operation, one, value] of steps) {
          for (const each of [sharded, map]) {
            if (operation === 'set') each.set(one, value);
            if (operation === 'delete') each.delete(one);
            if (operation === 'clear?' && value % 5 === 0) each.clear();
          }
          expect([sharded.size, sharded.get(one)]).toEqual([map.size, map.get(one)]);
          for (const [known, held] of map) expect(sharded.get(known)).toBe(held);
        }
      }),
    );
  });
});
