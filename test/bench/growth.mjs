import { randomBytes } from 'node:crypto';
import { MemoryStore } from '../../dist/index.js';
import { sessionRecord } from './six-keys.mjs';

const SIZES = [1000, 10_000, 100_000, 1_000_000];
/** Operations that are timed together, small beside the smallest store. */
const BATCH = 100;
const BATCHES = 200;

/**
 * Prints what each operation of a MemoryStore takes as the store grows: the median of batches over sessions chosen at
 * random. What a batch creates it destroys or lets expire, so the store keeps its size.
 */
export async function growth() {
  const rows = {};
  for (const size of SIZES) rows[size.toLocaleString('en')] = await measure(size);
  console.table(rows);
}

async function measure(size) {
  let now = Date.now();
  const store = new MemoryStore({ clock: () => now, sweepInterval: '1d' });
  const ids = Array.from({ length: size }, newId);
  for (const [index, id] of ids.entries()) await store.create(id, sessionRecord(index, now + index));

  const times = { create: [], load: [], commit: [], touch: [], destroy: [], sweep: [] };
  const timed = async (operation, work) => {
    const began = performance.now();
    await work();
    times[operation].push(((performance.now() - began) * 1e6) / BATCH);
  };
  for (let batch = 0; batch < BATCHES; batch++) {
    // Others for each operation: one that was just used is in the processor's cache, as no session is by chance.
    const some = () => Array.from({ length: BATCH }, () => ids[Math.floor(Math.random() * size)]);
    const delta = { set: new Map([['data:visits', String(batch)]]), delete: [], header: {} };
    const later = now + 2 * 86_400_000 + batch;
    const [loaded, committed, touched] = [some(), some(), some()];
    await timed('load', () => each(loaded, (id) => store.load(id)));
    await timed('commit', () => each(committed, (id) => store.commit(id, delta)));
    await timed('touch', () => each(touched, (id) => store.touch(id, later)));

    const [kept, brief] = [added(size, now), added(size, now, now + 1)];
    await timed('create', () => each(kept, ([id, record]) => store.create(id, record)));
    await timed('destroy', () => each(kept, ([id]) => store.destroy(id)));
    await each(brief, ([id, record]) => store.create(id, record));
    now += 1;
    await timed('sweep', () => store.sweep());
  }
  if ((await store.count()) !== size) throw new Error('The store did not keep its size.');
  await store.close();
  return Object.fromEntries(Object.entries(times).map(([name, list]) => [name, median(list)]));
}

const newId = () => randomBytes(32).toString('hex');
const added = (size, now, expiresAt) =>
  Array.from({ length: BATCH }, (_, index) => [newId(), sessionRecord(size + index, now, expiresAt)]);

async function each(items, operation) {
  for (const item of items) await operation(item);
}

function median(list) {
  return Math.round(list.toSorted((a, b) => a - b)[list.length >> 1]);
}
