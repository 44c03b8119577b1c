import { BoundedStore } from '../../lib/stores/bounded-store.js';
import { Clock } from '../support/app.js';
import { HeldStore } from '../support/held-store.js';

const ID = 'a'.repeat(64);
const clock = new Clock();
const setting = (name: string, header = {}) => ({ set: new Map([[name, '1']]), delete: [], header });

describe('idle', () => {
  it('comes at once where nothing is under way, and otherwise when all of it has ended, however', async () => {
    const store = new HeldStore(undefined, clock.read);
    const bounded = new BoundedStore(store, 60_000, () => {});
    await bounded.idle();
    const [one, two] = [store.hold('load'), store.hold('load')];
    const loads = [bounded.load(ID, () => {}), bounded.load(ID, () => {})];
    let isIdle = false;
    const idle = bounded.idle().then(() => (isIdle = true));
    const other = bounded.idle();
    one.release();
    await loads[0];
    await new Promise(setImmediate);
    expect(isIdle).toBe(false);
    two.release();
    await Promise.all([idle, other]);
    store.fail('load');
    await expect(bounded.load(ID, () => {})).rejects.toMatchObject({ operation: 'load' });
    await bounded.idle();
  });

  it('is not deceived by an answer that comes after its time', async () => {
    const { jest } = import.meta;
    jest.useFakeTimers();
    try {
      const store = new HeldStore(undefined, clock.read);
      const bounded = new BoundedStore(store, 1000, () => {});
      const [late, held] = [store.hold('load'), store.hold('commit')];
      const loading = bounded.load(ID, () => {}).catch((error: unknown) => error);
      await jest.advanceTimersByTimeAsync(1000);
      expect(await loading).toMatchObject({ operation: 'load' });
      const committing = bounded.commit(ID, setting('a'));
      let isIdle = false;
      const idle = bounded.idle().then(() => (isIdle = true));
      late.release();
      await jest.advanceTimersByTimeAsync(10);
      expect(isIdle).toBe(false);
      held.release();
      await Promise.all([committing, idle]);
    } finally {
      jest.useRealTimers();
    }
  });

  it('comes also where an operation never ends', async () => {
    const store = new HeldStore(undefined, clock.read);
    store.hang('load');
    const bounded = new BoundedStore(store, 20, () => {});
    const loading = bounded.load(ID, () => {}).catch((error: unknown) => error);
    await bounded.idle();
    expect(await loading).toMatchObject({ operation: 'load' });
  });
});
