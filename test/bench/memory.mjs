// Bytes per session at rest, and how long sweeping keeps the event loop: ours beside the peers, on the same data.
//
//     node test/bench/memory.mjs [sessions]
//
// Each store runs in a process of its own; the heap is measured after a full collection before and after filling.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { sessionRecord, sixKeys } from './six-keys.mjs';

const require = createRequire(import.meta.url);
const [, , countText = '1000000', variant] = process.argv;
const count = Number(countText);

const variants = {
  'nest-session MemoryStore': async () => {
    const { MemoryStore } = await import('../../dist/index.js');
    let now = Date.now();
    const store = new MemoryStore({ clock: () => now, sweepInterval: '1d' });
    return {
      put: (index) => {
        return store.create(
          randomBytes(32).toString('hex'),
          sessionRecord(index, now, now + 86_400_000 + index),
        );
      },
      expire: () => (now += 10 * 86_400_000),
      sweep: () => store.sweep(),
    };
  },
  'express-session MemoryStore': async () => {
    const { MemoryStore } = require('express-session');
    const store = new MemoryStore();
    return { put: callback(store) };
  },
  memorystore: async () => {
    const Store = require('memorystore')(require('express-session'));
    const store = new Store({ checkPeriod: 86_400_000 });
    return { put: callback(store), sweep: async () => store.prune() };
  },
};

/** express-session gives every session an id of 24 bytes and its cookie's attributes. */
const callback = (store) => (index) =>
  new Promise((resolve) => {
    const cookie = {
      originalMaxAge: 86_400_000,
      expires: new Date(Date.now() + 86_400_000),
      httpOnly: true,
      path: '/',
    };
    store.set(randomBytes(24).toString('base64url'), { cookie, ...sixKeys(index) }, resolve);
  });

async function measure(name) {
  const { put, expire, sweep } = await variants[name]();
  for (let index = 0; index < 1000; index++) await put(index);
  const used = () => {
    globalThis.gc();
    globalThis.gc();
    return process.memoryUsage().heapUsed + process.memoryUsage().external;
  };
  const before = used();
  for (let index = 0; index < count; index++) await put(index);
  const bytes = (used() - before) / count;
  await put(count); // so that nothing of the store was collected before it was measured
  let longest = 0;
  let total = 0;
  if (sweep && expire) {
    expire();
    let last = performance.now();
    let running = true;
    // How long the loop takes to come round again, while the store sweeps.
    const turn = () => {
      const now = performance.now();
      longest = Math.max(longest, now - last);
      last = now;
      if (running) setImmediate(turn);
    };
    setImmediate(turn);
    const began = performance.now();
    await sweep();
    running = false;
    total = performance.now() - began;
  }
  console.log(JSON.stringify({ name, bytes, longest, total }));
}

if (variant) {
  await measure(variant);
} else {
  console.log(`${count} sessions of six keys, Node ${process.version}`);
  for (const name of Object.keys(variants)) {
    const options = [
      '--expose-gc',
      '--max-old-space-size=8000',
      fileURLToPath(import.meta.url),
      countText,
      name,
    ];
    const { bytes, longest, total } = JSON.parse(
      execFileSync(process.execPath, options, { encoding: 'utf8' }),
    );
    const sweeping = total ? `, swept in ${total.toFixed(0)} ms, longest pause ${longest.toFixed(1)} ms` : '';
    console.log(`${name.padEnd(30)} ${bytes.toFixed(0).padStart(6)} bytes per session${sweeping}`);
  }
}
