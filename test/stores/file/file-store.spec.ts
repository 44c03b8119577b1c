import { jest } from '@jest/globals';
import { execFile } from 'node:child_process';
import { AsyncLocalStorage } from 'node:async_hooks';
import { existsSync } from 'node:fs';
import {
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { FileStore, type FileStoreOptions } from 'nest-session';
import { FileStores, sha256 } from '../../support/file-stores.js';

const run = promisify(execFile);

const ID = '0123456789abcdef'.repeat(4);
const OTHER = 'fedcba9876543210'.repeat(4);
const NOTHING = { set: new Map<string, string>(), delete: [], header: {} };

// Nothing here is in a hurry, and the machine may be busy.
jest.setTimeout(30_000);

describe('FileStore', () => {
  const stores = new FileStores();
  const { clock } = stores;
  const record = stores.record.bind(stores);
  let directory: string;
  let store: FileStore;

  function open(options: FileStoreOptions = {}): FileStore {
    return stores.open({ directory, clock: clock.read, ...options });
  }

  beforeEach(() => {
    stores.begin();
    directory = stores.temporaryDirectory();
    store = open();
  });
  afterEach(() => stores.end());

  /** The document of a session. */
  const pathOf = (id: string): string =>
    join(directory, 'sessions', sha256(id).slice(0, 2), `${sha256(id)}.json`);

  const markerOf = (userId: string, id: string): string =>
    join(directory, 'users', sha256(userId).slice(0, 2), sha256(userId), sha256(id));

  /** Everything below the directory that is no folder. */
  async function files(): Promise<string[]> {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name);
  }

  async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
    while (!(await condition())) await pause(5);
  }

  describe('on the disk', () => {
    it('has a document for each session that people can read, under a name nobody can steer', async () => {
      await store.create(ID, { ...record({ cart: '[1]' }), userId: '../../alice' });
      const { now } = clock;
      expect((await files()).toSorted()).toEqual([`${sha256(ID)}.json`, sha256(ID)].toSorted());
      expect(await readFile(pathOf(ID), 'utf8')).toBe(`{
  "version": 1,
  "id": "${ID}",
  "createdAt": ${now},
  "lastAccessedAt": ${now},
  "expiresAt": ${now + 100_000},
  "userId": "../../alice",
  "fields": {
    "cart": "[1]"
  }
}
`);
    });

    it.each(['000', '022', '077', '177'])('is closed to others under umask %s', async (umask) => {
      directory = stores.temporaryDirectory();
      const before = process.umask(Number.parseInt(umask, 8));
      try {
        await open().create(ID, { ...record(), userId: 'alice' });
      } finally {
        process.umask(before);
      }
      const entries = await readdir(directory, { recursive: true, withFileTypes: true });
      const modes = await Promise.all(
        entries.map(async (entry) => {
          const { mode } = await lstat(join(entry.parentPath, entry.name));
          return [entry.isDirectory(), mode & 0o777];
        }),
      );
      expect((await stat(directory)).mode & 0o777).toBe(0o700);
      expect(modes).toHaveLength(7);
      for (const mode of modes) expect(mode).toEqual(mode[0] ? [true, 0o700] : [false, 0o600]);
    });

    it.each([
      '../x',
      '..%2f',
      'a/b',
      'a\\b',
      'a\0b',
      '.',
      '..',
      '',
      'CON',
      'aux.txt',
      '~',
      '-rf',
      'x'.repeat(300),
    ])('keeps the id %j inside', async (id) => {
      const outside = await readdir(dirname(directory));
      await store.create(id, { ...record(), userId: id });
      expect((await store.load(id))?.fields.get('a')).toBe('1');
      expect([...(await store.listByUser(id)).keys()]).toEqual([id]);
      expect(await readdir(dirname(directory))).toEqual(outside);
      expect((await files()).toSorted()).toEqual([`${sha256(id)}.json`, sha256(id)].toSorted());
    });

    it('takes ids that differ in case or normal form for different ones', async () => {
      const ids = ['abc', 'ABC', 'é', 'e\u0301'];
      for (const id of ids) expect(await store.create(id, record({ id }))).toBe('created');
      for (const id of ids) expect((await store.load(id))?.fields.get('id')).toBe(id);
    });

    it('leaves nothing behind of a session that is gone', async () => {
      await store.create(ID, { ...record(), userId: 'eve' });
      await store.commit(ID, { ...NOTHING, header: { userId: 'alice' } });
      expect((await files()).toSorted()).toEqual([`${sha256(ID)}.json`, sha256(ID)].toSorted());
      await store.rotate(ID, OTHER, { ...NOTHING, header: { userId: 'bob' } });
      expect((await files()).toSorted()).toEqual([`${sha256(OTHER)}.json`, sha256(OTHER)].toSorted());
      await store.destroy(OTHER);
      expect(await files()).toEqual([]);
      expect(existsSync(dirname(markerOf('eve', ID)))).toBe(false);
      expect(existsSync(dirname(markerOf('alice', ID)))).toBe(false);
      expect(existsSync(dirname(markerOf('bob', OTHER)))).toBe(false);
    });

    it('is there again after a restart', async () => {
      await store.create(ID, { ...record({ a: '1', ['__proto__']: '2' }), userId: 'alice' });
      await store.close();
      const loaded = await open().load(ID);
      expect(loaded).toMatchObject({ userId: 'alice', createdAt: clock.now });
      expect(Object.entries(Object.fromEntries(loaded?.fields ?? []))).toEqual([
        ['a', '1'],
        ['__proto__', '2'],
      ]);
    });

    it('is made anew where somebody has removed it', async () => {
      await store.create(ID, { ...record(), userId: 'alice' });
      await rm(directory, { recursive: true });
      expect(await store.load(ID)).toBeUndefined();
      expect(await store.listByUser('alice')).toEqual(new Map());
      expect(await store.sweep()).toBe(0);
      expect(await store.create(ID, { ...record(), userId: 'alice' })).toBe('created');
      expect(await store.load(ID)).toBeDefined();
      expect((await stat(directory)).mode & 0o777).toBe(0o700);
    });

    it('has what it was given, whatever becomes of that before it is written', async () => {
      const given = record();
      const created = store.create(ID, given);
      given.fields.set('a', 'changed outside');
      await created;
      const delta = { set: new Map([['b', '2']]), delete: ['c'], header: { userId: 'alice' } };
      const committed = store.commit(ID, delta);
      delta.set.set('b', 'changed outside');
      delta.delete.push('a');
      delta.header.userId = 'mallory';
      await committed;
      const loaded = await store.load(ID);
      expect([loaded?.userId, ...(loaded?.fields ?? [])]).toEqual(['alice', ['a', '1'], ['b', '2']]);
    });

    it('takes no session that it could not read again', async () => {
      await store.create(ID, record());
      const large = 'x'.repeat(8 * 1024 * 1024);
      await expect(store.commit(ID, { ...NOTHING, set: new Map([['b', large]]) })).rejects.toThrow(
        /The session would take \d+ bytes, and there is room for 8388608. Its largest key is b/,
      );
      await expect(store.create(OTHER, record({ large }))).rejects.toThrow(/Its largest key is large/);
      expect(await store.load(ID)).toEqual(record());
      expect(await store.load(OTHER)).toBeUndefined();
      expect(await files()).toEqual([`${sha256(ID)}.json`]);
      const largest = 'x'.repeat(8 * 1024 * 1024 - 1000);
      expect(await store.commit(ID, { ...NOTHING, set: new Map([['b', largest]]) })).toBe('saved');
      expect((await store.load(ID))?.fields.get('b')).toBe(largest);
    });
  });

  describe('what lies under a session’s name and is none', () => {
    const SECRET = 'not to be read, and not to be deleted';
    let target: string;
    beforeEach(async () => {
      target = join(dirname(directory), 'target');
      await store.create(ID, { ...record(), userId: 'alice' });
      await store.create(OTHER, record());
      await writeFile(target, SECRET);
    });

    /** Puts something in the place of the document. */
    const plants: Record<string, (path: string) => Promise<unknown>> = {
      'a link to a file elsewhere': (path) => symlink(target, path),
      'a link to another session': (path) => symlink(pathOf(OTHER), path),
      'a link to nothing': (path) => symlink(join(directory, 'nothing'), path),
      'a link to itself': (path) => symlink(path, path),
      'a link to a folder': (path) => symlink(dirname(target), path),
      'a hard link to another session': (path) => link(pathOf(OTHER), path),
      'a FIFO': (path) => run('mkfifo', [path]),
      'a large file': (path) => run('truncate', ['-s', '1G', path]),
      'an empty file': (path) => writeFile(path, ''),
      'half a document': async (path) => writeFile(path, (await readFile(pathOf(OTHER))).subarray(0, 150)),
      'no JSON': (path) => writeFile(path, 'nonsense'),
      'bytes that are no text': (path) => writeFile(path, Buffer.from([0xff, 0xfe, 0x00, 0x80])),
      'the document of another session': async (path) => writeFile(path, await readFile(pathOf(OTHER))),
    };
    for (const text of ['[]', 'null', '1', '"x"', '{}', '[['.repeat(100_000)]) {
      plants[`JSON: ${text.slice(0, 10)}`] = (path) => writeFile(path, text);
    }
    const changes: Record<string, unknown>[] = [
      { version: 2 },
      { version: undefined },
      { id: 7 },
      { id: OTHER },
      { createdAt: undefined },
      { createdAt: '1' },
      { lastAccessedAt: 1.5 },
      { expiresAt: 1e300 },
      { expiresAt: null },
      { userId: 7 },
      { userId: null },
      { fields: undefined },
      { fields: null },
      { fields: [] },
      { fields: 'text' },
      { fields: { a: 1 } },
      { fields: { a: null } },
    ];
    for (const change of changes) {
      plants[`a document with ${JSON.stringify(change)}, ${Object.keys(change)}`] = async (path) => {
        const document = JSON.parse(await readFile(pathOf(OTHER), 'utf8')) as object;
        await writeFile(path, JSON.stringify({ ...document, id: ID, ...change }));
      };
    }

    async function plant(what: string): Promise<void> {
      await rm(pathOf(ID));
      await plants[what](pathOf(ID));
      expect(await lstat(pathOf(ID))).toBeDefined();
    }

    it.each(Object.keys(plants))('counts as no session, is reported, and removed: %s', async (what) => {
      await plant(what);
      const reports: string[] = [];
      expect(await store.load(ID, (why) => reports.push(why))).toBeUndefined();
      expect(reports).toEqual(['undecodable']);
      expect(stores.warnings).toEqual([
        `${pathOf(ID)} is not what FileStore writes, and counts as no session.`,
      ]);
      expect(await readdir(dirname(pathOf(ID)))).toEqual([]);
      expect(await store.load(ID, (why) => reports.push(why))).toBeUndefined();
      expect(reports).toEqual(['undecodable']);
      expect(await readFile(target, 'utf8')).toBe(SECRET);
      expect(await store.load(OTHER)).toEqual(record());
      expect(await store.listByUser('alice')).toEqual(new Map());
    });

    it.each(Object.keys(plants))('is gone for whatever changes, and can be replaced: %s', async (what) => {
      await plant(what);
      expect(await store.commit(ID, NOTHING)).toBe('gone');
      expect(await store.touch(ID, clock.now + 1000)).toBe('gone');
      expect(await store.rotate(ID, 'new', NOTHING)).toBe('gone');
      expect(await store.count()).toBe(1);
      expect(await store.create(ID, record({ b: '2' }))).toBe('created');
      expect(await store.load(ID)).toEqual(record({ b: '2' }));
      expect(await readFile(target, 'utf8')).toBe(SECRET);
      expect(await store.load(OTHER)).toEqual(record());
    });

    it.each(Object.keys(plants))('is swept, and is no expired session: %s', async (what) => {
      await plant(what);
      expect(await store.sweep()).toBe(0);
      expect(await files()).toEqual([`${sha256(OTHER)}.json`]);
      expect(await readFile(target, 'utf8')).toBe(SECRET);
    });

    it('is cleared and destroyed', async () => {
      await plant('a link to a file elsewhere');
      expect(await store.destroy(ID)).toBe(false);
      await plants['a FIFO'](pathOf(ID));
      await store.clear();
      expect(await store.sweep()).toBe(0);
      expect(await files()).toEqual([]);
      expect(await readFile(target, 'utf8')).toBe(SECRET);
    });

    it('is left alone when it is a folder', async () => {
      await rm(pathOf(ID));
      await mkdir(pathOf(ID));
      await writeFile(join(pathOf(ID), 'inside'), SECRET);
      const reports: string[] = [];
      expect(await store.load(ID, (why) => reports.push(why))).toBeUndefined();
      expect(reports).toEqual(['undecodable']);
      expect(await store.commit(ID, NOTHING)).toBe('gone');
      expect(await store.destroy(ID)).toBe(false);
      expect(await store.sweep()).toBe(0);
      await store.clear();
      expect(await readFile(join(pathOf(ID), 'inside'), 'utf8')).toBe(SECRET);
    });

    it('says nothing of its content', async () => {
      await rm(pathOf(ID));
      await writeFile(pathOf(ID), SECRET);
      await store.load(ID);
      expect(stores.warnings.join()).not.toContain(SECRET);
    });
  });

  it.each([
    [{ durable: 'yes' as unknown as boolean }, /FileStore durable: got 'yes'/],
    [{ sweepInterval: 'often' }, /FileStore sweepInterval: got 'often'/],
    [{ sweepInterval: 0 }, /FileStore sweepInterval: got 0/],
  ])('refuses %j', (options, message) => {
    expect(() => new FileStore({ directory, ...options })).toThrow(message);
  });

  describe('the index of users', () => {
    it('gets over markers that are wrong, and removes them', async () => {
      await store.create(ID, { ...record(), userId: 'alice' });
      for (const id of ['missing', OTHER]) await writeFile(markerOf('alice', id), '');
      await store.create(OTHER, { ...record(), userId: 'bob' });
      expect([...(await store.listByUser('alice')).keys()]).toEqual([ID]);
      expect(await readdir(dirname(markerOf('alice', ID)))).toEqual([sha256(ID)]);
      expect([...(await store.listByUser('bob')).keys()]).toEqual([OTHER]);
    });

    /** Does one thing after the other, and meanwhile another again and again. */
    async function meanwhile(steps: () => Promise<unknown>, again: () => Promise<unknown>): Promise<void> {
      const state = { done: false };
      const stepping = steps().finally(() => (state.done = true));
      while (!state.done) await again();
      await stepping;
    }

    it('loses no marker to its repair while others come', async () => {
      const ids = Array.from({ length: 100 }, (_, index) => `${index}`);
      await meanwhile(
        async () => {
          for (const id of ids) await store.create(id, { ...record(), userId: 'alice' });
        },
        () => Promise.all(Array.from({ length: 3 }, () => store.listByUser('alice'))),
      );
      expect([...(await store.listByUser('alice')).keys()].toSorted()).toEqual(ids.toSorted());
    });

    it('loses none to a sweep while others come', async () => {
      const ids = Array.from({ length: 100 }, (_, index) => `${index}`);
      await meanwhile(
        async () => {
          for (const id of ids) await store.create(id, { ...record(), userId: 'alice' });
        },
        () => store.sweep(),
      );
      expect([...(await store.listByUser('alice')).keys()].toSorted()).toEqual(ids.toSorted());
    });

    it('gives a session that is rotated meanwhile', async () => {
      const others = Array.from({ length: 20 }, (_, index) => `other ${index}`);
      for (const id of ['0', ...others]) await store.create(id, { ...record(), userId: 'alice' });
      await meanwhile(
        async () => {
          for (let id = 0; id < 200; id++) await store.rotate(`${id}`, `${id + 1}`, NOTHING);
        },
        async () => expect((await store.listByUser('alice')).size).toBeGreaterThan(others.length),
      );
      expect([...(await store.listByUser('alice')).keys()].toSorted()).toEqual(['200', ...others].toSorted());
    });

    it('tells users apart whose names no text encoding can hold', async () => {
      const users = ['\ud800', '\ud801'];
      await store.create(ID, { ...record(), userId: users[0] });
      await store.create(OTHER, { ...record(), userId: users[1] });
      expect([...(await store.listByUser(users[0])).keys()]).toEqual([ID]);
      await store.commit(ID, { ...NOTHING, header: { userId: users[1] } });
      expect(await store.listByUser(users[0])).toEqual(new Map());
      expect((await store.listByUser(users[1])).size).toBe(2);
    });
  });

  describe('sweeping', () => {
    const HOUR_AGO = new Date(Date.now() - 3_660_000);
    const shard = (): string => dirname(pathOf(ID));

    it('removes what has expired, its markers too, and nothing else', async () => {
      for (let index = 0; index < 60; index++) {
        await store.create(`${index}`, { ...record({}, index % 3 ? 10 : 100), userId: `user ${index % 2}` });
      }
      clock.pass(50);
      expect(await store.sweep()).toBe(40);
      expect(await files()).toHaveLength(40);
      expect(await store.count()).toBe(20);
      clock.pass(50);
      expect(await store.sweep()).toBe(20);
      expect(await files()).toEqual([]);
      const folders = await readdir(join(directory, 'users'), { recursive: true });
      expect(folders.every((name) => name.length === 2)).toBe(true);
    });

    it('removes markers without a session', async () => {
      await store.create(ID, { ...record(), userId: 'alice' });
      await rm(pathOf(ID));
      await store.sweep();
      expect(await files()).toEqual([]);
    });

    it('leaves what is not its own', async () => {
      await store.create(ID, { ...record({}, 1), userId: 'alice' });
      const foreign = [
        'README',
        'sessions/notes.json',
        'sessions/00/x.json',
        `sessions/00/00${'A'.repeat(62)}.json`,
        `sessions/00/00${'a'.repeat(61)}.json`,
        `sessions/00/00${'a'.repeat(62)}.json.bak`,
        `sessions/00/00${'a'.repeat(62)}.tmp`,
        `sessions/00/00${'a'.repeat(62)}.locks`,
        `sessions/00/00${'A'.repeat(62)}.lock`,
        `sessions/00/00${'A'.repeat(62)}.json.x.1.tmp`,
        `sessions/00/${'a'.repeat(64)}.json`,
        `sessions/00/${'a'.repeat(64)}.lock`,
        'sessions/00/.lock',
        `sessions/zz/${'a'.repeat(64)}.json`,
        `users/${'a'.repeat(64)}`,
        `users/00/${'0'.repeat(64)}`,
        `users/00/somebody/${'0'.repeat(64)}`,
        `users/00/${'1'.repeat(64)}/note`,
      ];
      for (const path of foreign) {
        await mkdir(dirname(join(directory, path)), { recursive: true, mode: 0o700 });
        await writeFile(join(directory, path), '');
        await utimes(join(directory, path), HOUR_AGO, HOUR_AGO);
      }
      clock.pass(2);
      expect(await store.sweep()).toBe(1);
      await store.clear();
      expect((await files()).toSorted()).toEqual(foreign.map((path) => path.split('/').at(-1)).toSorted());
    });

    it('walks into no link', async () => {
      const elsewhere = `${directory}-elsewhere`;
      await mkdir(elsewhere);
      await writeFile(join(elsewhere, sha256('session')), '');
      const user = dirname(markerOf('alice', ID));
      await mkdir(dirname(user), { recursive: true });
      await symlink(elsewhere, user);
      await store.sweep();
      expect(await readdir(elsewhere)).toEqual([sha256('session')]);
    });

    it('removes temporaries that nobody will rename', async () => {
      await store.create(ID, record());
      const stray = `${pathOf(ID)}.somewhere.1.1.x.7.tmp`;
      const fresh = `${pathOf(ID)}.somewhere.1.1.x.8.tmp`;
      for (const path of [stray, fresh]) await writeFile(path, '');
      await utimes(stray, HOUR_AGO, HOUR_AGO);
      await store.sweep();
      expect((await readdir(shard())).toSorted()).toEqual(
        [pathOf(ID), fresh].map((path) => path.slice(shard().length + 1)).toSorted(),
      );
    });

    it('happens in the background, over what was there before, and outside of requests', async () => {
      for (let index = 0; index < 20; index++) await store.create(`${index}`, record({}, 10));
      const requests = new AsyncLocalStorage<string>();
      const seen = new Set<unknown>();
      const read = (): number => {
        seen.add(requests.getStore());
        return clock.now;
      };
      requests.run('a request', () => open({ sweepInterval: '256ms', clock: read }));
      await until(() => seen.size > 0);
      clock.pass(50);
      await until(async () => (await files()).length === 0);
      expect([...seen]).toEqual([undefined]);
      expect(stores.warnings).toEqual([]);
    });

    it('ends with close, after the session it is at', async () => {
      await store.create(ID, record({}, 10));
      clock.pass(50);
      const closed = new Promise<void>((resolve) => {
        const background = open({
          sweepInterval: '256ms',
          clock: () => {
            resolve(background.close());
            return clock.now;
          },
        });
      });
      await closed;
      expect(await files()).toEqual([]);
    });

    it('does not begin again after close', async () => {
      await store.create(ID, record());
      let asked = 0;
      const background = open({ sweepInterval: '256ms', clock: () => (asked++, clock.now) });
      await until(() => asked > 0);
      await background.close();
      asked = 0;
      // Another goes through everything meanwhile, more than once.
      let others = 0;
      open({ sweepInterval: '256ms', clock: () => (others++, clock.now) });
      await until(() => others > 2);
      expect(asked).toBe(0);
    });

    it('that fails in the background is told of once, and goes on when it can', async () => {
      await store.create(ID, record({}, 10));
      open({ sweepInterval: '256ms' });
      await rename(directory, `${directory}-moved`);
      await writeFile(directory, '');
      await until(() => stores.warnings.length > 0);
      for (let tick = 0; tick < 20; tick++) await pause(1);
      expect(stores.warnings).toEqual([
        expect.stringMatching(/^Expired sessions cannot be removed: Error: ENOTDIR/),
      ]);
      await rm(directory);
      await rename(`${directory}-moved`, directory);
      clock.pass(50);
      await until(async () => (await files()).length === 0);
    });
  });

  it('keeps the contract when it waits for the disk', async () => {
    const durable = open({ durable: true });
    expect(await durable.create(ID, { ...record(), userId: 'alice' })).toBe('created');
    expect(await durable.commit(ID, { ...NOTHING, set: new Map([['b', '2']]) })).toBe('saved');
    expect(await durable.rotate(ID, OTHER, NOTHING)).toBe('saved');
    expect((await durable.load(OTHER))?.fields).toEqual(new Map([...record().fields, ['b', '2']]));
    expect(await durable.destroy(OTHER)).toBe(true);
    expect(await files()).toEqual([]);
  });
});
