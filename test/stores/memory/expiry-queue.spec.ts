import { ExpiryQueue } from '../../../lib/stores/memory/expiry-queue.js';

describe('the expiry queue', () => {
  it('gives entries in the order of their expiry, whatever was moved or removed in between', () => {
    const queue = new ExpiryQueue<{ expiresAt: number; position: number }>();
    let seed = 7;
    const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
    const entries = Array.from({ length: 1000 }, () => ({ expiresAt: random(500), position: 0 }));
    for (const entry of entries) queue.add(entry);
    const left = new Set(entries);
    for (const entry of entries) {
      const fate = random(3);
      if (fate === 0) {
        queue.remove(entry);
        left.delete(entry);
      } else if (fate === 1) {
        entry.expiresAt = random(500);
        queue.moved(entry);
      }
    }
    const expected = [...left].map((entry) => entry.expiresAt).sort((a, b) => a - b);
    const actual: number[] = [];
    for (let first = queue.first; first; first = queue.first) {
      actual.push(first.expiresAt);
      queue.remove(first);
    }
    expect(actual).toEqual(expected);
  });
});
