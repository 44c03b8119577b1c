import { BoundedCache } from '../../lib/util/bounded-cache.js';

describe('BoundedCache', () => {
  it('returns what was set, and undefined for any other key', () => {
    const cache = new BoundedCache<number>(2);
    cache.set('a', 1);
    cache.set('b', 0);
    expect(['a', 'b', 'c', '__proto__'].map((key) => cache.get(key))).toEqual([1, 0, undefined, undefined]);
  });

  it('removes the value that was set longest ago when there is one too many', () => {
    const cache = new BoundedCache<number>(2);
    cache.set('a', 1);
    cache.set('b', 2);
    cache.set('a', 3);
    cache.set('c', 4);
    expect(['a', 'b', 'c'].map((key) => cache.get(key))).toEqual([3, undefined, 4]);
  });

  it('removes nothing when a full cache gets a new value for a key it has', () => {
    const cache = new BoundedCache<number>(2);
    cache.set('a', 1);
    cache.set('b', 2);
    cache.set('b', 3);
    expect(['a', 'b'].map((key) => cache.get(key))).toEqual([1, 3]);
  });

  it('keeps values for ever without a ttl', () => {
    const cache = new BoundedCache<number>(2);
    cache.set('a', 1);
    expect(cache.get('a', Number.MAX_SAFE_INTEGER)).toBe(1);
  });

  it('keeps a value until its ttl has passed since its last set', () => {
    const cache = new BoundedCache<number>(2, 10);
    cache.set('a', 1, 100);
    expect([cache.get('a', 109), cache.get('a', 110)]).toEqual([1, undefined]);
    cache.set('a', 2, 105);
    expect([cache.get('a', 114), cache.get('a', 115)]).toEqual([2, undefined]);
  });

  it('removes expired values first', () => {
    const cache = new BoundedCache<number>(2, 10);
    cache.set('a', 1, 100);
    cache.set('b', 2, 105);
    cache.set('c', 3, 110);
    // Asked about a time at which all would still be there.
    expect(['a', 'b', 'c'].map((key) => cache.get(key, 100))).toEqual([undefined, 2, 3]);
  });

  it('forgets a key that was deleted', () => {
    const cache = new BoundedCache<number>(2);
    cache.set('a', 1);
    cache.delete('a');
    cache.delete('b');
    expect(cache.get('a')).toBeUndefined();
  });
});
