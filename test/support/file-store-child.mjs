// A process of its own with a FileStore, run by StoreProcess: answers calls until its parent hangs up.
import { constants } from 'node:fs';
import { open, readdir, readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { withFileLock } from '../../dist/stores/file/file-lock.js';
import { FileStore } from '../../dist/index.js';

const [, , directory, durable] = process.argv;
const store = new FileStore({ directory, durable: durable === 'true' });

const delta = (set) => ({ set: new Map(Object.entries(set)), delete: [], header: {} });

const jobs = {
  /** Commits fields of its own, one commit each, several at a time. */
  async commitEach(id, names) {
    const outcomes = [];
    for (let start = 0; start < names.length; start += 4) {
      const some = names.slice(start, start + 4);
      outcomes.push(...(await Promise.all(some.map((name) => store.commit(id, delta({ [name]: name }))))));
    }
    return outcomes.every((outcome) => outcome === 'saved');
  },

  /** Commits a pair of fields that agree, again and again, and tells of each that was saved. */
  async commitPairs(id) {
    for (let number = 1; ; number++) {
      const text = `${number}`.repeat(10_000);
      await store.commit(id, delta({ first: text, second: text }));
      await new Promise((resolve) => process.send({ progress: number }, resolve));
    }
  },

  /** Takes a lock and never lets go. */
  hold(lock) {
    return new Promise((resolve) => {
      void withFileLock(lock, () => {
        resolve(true);
        return new Promise(() => {});
      });
    });
  },

  /** Adds one to the number in a file, which only the lock protects. */
  async increment(lock, file) {
    await withFileLock(lock, async () => writeFile(file, `${Number(await readFile(file, 'utf8')) + 1}`));
  },

  /** Fills the file system until it refuses another byte, but for `left` bytes. */
  async fill(left) {
    const filler = await open(join(directory, 'filler'), 'w');
    const { bavail, bsize } = await statfs(directory);
    await filler.writeFile(Buffer.alloc(Math.max(0, bavail * bsize - left)));
    await filler.close();
  },

  /** Takes every inode but `left`. */
  async fillInodes(left) {
    const { ffree } = await statfs(directory);
    for (let number = 0; number < ffree - left; number++)
      await writeFile(join(directory, `filler${number}`), '');
  },

  async empty() {
    for (const name of await readdir(directory)) {
      if (name.startsWith('filler')) await rm(join(directory, name));
    }
  },

  /** The files of the store, whatever their purpose. */
  async files() {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => !entry.isDirectory() && !entry.name.startsWith('filler'))
      .map(({ name }) => name);
  },

  /** Opens files until there are no more file descriptors; releases them after the call it was given. */
  async withoutDescriptors(method, ...args) {
    const files = [];
    try {
      for (;;) files.push(await open('/dev/null', constants.O_RDONLY));
    } catch (error) {
      if (error.code !== 'EMFILE') throw error;
      return await store[method](...args).then(
        () => 'no error',
        ({ code }) => code,
      );
    } finally {
      await Promise.all(files.map((file) => file.close()));
    }
  },
};

process.on('message', async ({ call, method, args }) => {
  try {
    process.send({ call, result: await (jobs[method] ?? store[method].bind(store))(...args) });
  } catch (error) {
    process.send({ call, error: { message: error.message, code: error.code } });
  }
});
process.send('ready');
