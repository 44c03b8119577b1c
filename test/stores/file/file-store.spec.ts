import { jest } from '@jest/globals';
import { Logger, Module } from '@nestjs/common';
import { execFile } from 'node:child_process';
import { AsyncLocalStorage } from 'node:async_hooks';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync } from 'node:fs';
import {
  chmod,
  chown,
  lchown,
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
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { SessionConfigurationError, SessionModule, type SessionRecord } from 'nest-session';
import { FileStore, type FileStoreOptions } from '../../../lib/stores/file/file.store.js';
import { adapters, Clock, createApp } from '../../support/app.js';

const run = promisify(execFile);

const ID = '0123456789abcdef'.repeat(4);
const OTHER = 'fedcba9876543210'.repeat(4);
const NOTHING = { set: new Map<string, string>(), delete: [], header: {} };

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

// Nothing here is in a hurry, and the machine may be busy.
jest.setTimeout(30_000);

describe('FileStore', () => {
  const made: string[] = [];
  const opened: FileStore[] = [];
  const clock = new Clock();
  let warnings: string[];
  let directory: string;
  let store: FileStore;

  function temporaryDirectory(): string {
    made.push(mkdtempSync(join(tmpdir(), 'nest-session-')));
    return join(made.at(-1) as string, 'sessions-here');
  }

  function open(options: FileStoreOptions = {}): FileStore {
    opened.push(new FileStore({ directory, clock: clock.read, ...options }));
    return opened.at(-1) as FileStore;
  }

  beforeEach(() => {
    warnings = [];
    Logger.overrideLogger({
      log: () => undefined,
      error: () => undefined,
      warn: (text) => warnings.push(text),
    });
    directory = temporaryDirectory();
    store = open();
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((each) => each.close()));
    await Promise.all(made.splice(0).map((path) => rm(path, { recursive: true })));
    Logger.overrideLogger(new Logger());
  });

  function record(fields: Record<string, string> = { a: '1' }, seconds = 100): SessionRecord {
    const { now } = clock;
    return {
      createdAt: now,
      lastAccessedAt: now,
      expiresAt: now + seconds * 1000,
      fields: new Map(Object.entries(fields)),
    };
  }

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
      directory = temporaryDirectory();
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
      expect(warnings).toEqual([`${pathOf(ID)} is not what FileStore writes, and counts as no session.`]);
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
      expect(warnings.join()).not.toContain(SECRET);
    });
  });

  /** What is wrong with a directory. */
  function refusal(path: string): string | undefined {
    try {
      opened.push(new FileStore({ directory: path }));
      return undefined;
    } catch (error) {
      if (!(error instanceof SessionConfigurationError)) throw error;
      return error.message.replace('Session option FileStore directory: ', '');
    }
  }

  describe('a directory', () => {
    it('is .sessions where the process runs, if none is named', async () => {
      const here = process.cwd();
      const elsewhere = temporaryDirectory();
      await mkdir(elsewhere, { mode: 0o700 });
      process.chdir(elsewhere);
      try {
        opened.push(new FileStore());
        expect(await readdir('.')).toEqual(['.sessions']);
      } finally {
        process.chdir(here);
      }
    });

    it('may be there already, with other things in it', async () => {
      const there = temporaryDirectory();
      await mkdir(there, { mode: 0o755 });
      await writeFile(join(there, 'README'), 'mine');
      opened.push(new FileStore({ directory: there }));
      expect(await readFile(join(there, 'README'), 'utf8')).toBe('mine');
    });

    it('that is a link is refused', async () => {
      const path = `${directory}-link`;
      await symlink(directory, path);
      expect(refusal(path)).toBe(`${path} is a symbolic link; name the directory it leads to.`);
    });

    it('that is a file is refused', async () => {
      const path = `${directory}-file`;
      await writeFile(path, '');
      expect(refusal(path)).toBe(`${path} is no directory; move it away, or name another.`);
    });

    it.each([0o777, 0o770, 0o702])('with mode %o is refused', async (mode) => {
      await chmod(directory, mode);
      expect(refusal(directory)).toBe(
        `${directory} can be written to by others; run: chmod 700 '${directory}'.`,
      );
      await expect(store.ping()).rejects.toThrow(`run: chmod 700 '${directory}'`);
    });

    it.each(['sessions', 'users'])('whose folder %s others can write to is refused', async (folder) => {
      await store.create(ID, { ...record(), userId: 'alice' });
      await chmod(join(directory, folder), 0o777);
      const path = join(directory, folder);
      expect(refusal(directory)).toBe(`${path} can be written to by others; run: chmod 700 '${path}'.`);
    });

    it.each(['sessions', 'users'])('whose folder %s is a link is refused', async (folder) => {
      const elsewhere = `${directory}-elsewhere`;
      await mkdir(elsewhere);
      await symlink(elsewhere, join(directory, folder));
      expect(refusal(directory)).toBe(
        `${join(directory, folder)} is a symbolic link; name the directory it leads to.`,
      );
    });

    it('with a shard that is a link is refused', async () => {
      await store.create(ID, record());
      await symlink(dirname(directory), join(directory, 'sessions', '00'));
      const path = join(directory, 'sessions');
      expect(refusal(directory)).toBe(
        `${path} holds a symbolic link, 00, where a folder belongs; remove it.`,
      );
    });

    it('that belongs to somebody else is refused', async () => {
      const user = process.getuid?.() as number;
      // Only root can give a directory away, and nobody else runs into his own when he names the root's.
      const [path, owner] = user === 0 ? [directory, 12_345] : ['/usr', 0];
      if (user === 0) await chown(path, owner, owner);
      expect(refusal(path)).toBe(
        `${path} belongs to user ${owner}, and this process to user ${user}; chown it.`,
      );
    });

    it.each([[''], ['a\0b'], [7 as unknown as string], [null as unknown as string]])(
      'cannot be %j',
      (given) => {
        expect(() => new FileStore({ directory: given })).toThrow(
          /Session option FileStore directory: got .*, but it takes the path of a directory\./,
        );
      },
    );

    it('that cannot be created is refused', () => {
      expect(() => new FileStore({ directory: '/dev/null/sessions' })).toThrow(
        /^Session option FileStore directory: it cannot be used: ENOTDIR/,
      );
    });

    it('that is no directory any more is a store that cannot be reached', async () => {
      await store.create(ID, { ...record(), userId: 'alice' });
      await rename(directory, `${directory}-moved`);
      await writeFile(directory, '');
      const attempts: Record<string, () => Promise<unknown>> = {
        create: () => store.create(ID, record()),
        load: () => store.load(ID),
        touch: () => store.touch(ID, clock.now),
        commit: () => store.commit(ID, NOTHING),
        rotate: () => store.rotate(ID, OTHER, NOTHING),
        destroy: () => store.destroy(ID),
        listByUser: () => store.listByUser('alice'),
        count: () => store.count(),
        clear: () => store.clear(),
        sweep: () => store.sweep(),
        ping: () => store.ping(),
      };
      for (const attempt of Object.values(attempts))
        await expect(attempt()).rejects.toThrow(/ENOTDIR|is no directory/);
      await rm(directory);
      await rename(`${directory}-moved`, directory);
      expect(await store.load(ID)).toMatchObject({ userId: 'alice' });
      await store.ping();
      expect((await files()).toSorted()).toEqual([`${sha256(ID)}.json`, sha256(ID)].toSorted());
    });

    it('that cannot be written to fails the ping', async () => {
      await store.ping();
      await rm(join(directory, 'sessions'), { recursive: true });
      await writeFile(join(directory, 'sessions'), '');
      await expect(store.ping()).rejects.toThrow(/sessions is no directory/);
    });
  });

  describe('what leads to a directory', () => {
    const OWNER = 12_345;
    /** What leads to the directory: `above`, and in it `parent`. */
    let above: string;
    let parent: string;

    beforeEach(async () => {
      above = temporaryDirectory();
      parent = join(above, 'parent');
      directory = join(parent, 'sessions-here');
      await mkdir(parent, { recursive: true });
      for (const path of [above, parent]) await chmod(path, 0o755);
    });
    afterEach(() => jest.restoreAllMocks());

    const writable = (path: string): string =>
      `others can write to ${path}, which leads to it, and so put another directory in its place; ` +
      `run: chmod go-w '${path}', or, if others have to write there: chmod +t '${path}'.`;

    /** Makes a path somebody else's; how it is refused. */
    async function foreign(path: string, give: typeof chown): Promise<RegExp> {
      const user = process.getuid?.() as number;
      const refused = (which: string, owner: number, ours: number): RegExp =>
        new RegExp(
          `^${which}, which leads to it, belongs to user ${owner}, who could put another directory in its place; ` +
            `chown it to root or to the user of this process, ${ours}\\.$`,
        );
      if (user === 0) {
        await give(path, OWNER, OWNER);
        return refused(path, OWNER, user);
      }
      // Only root can give anything away. To another user, all that is ours belongs to somebody else.
      jest.spyOn(process as { getuid: () => number }, 'getuid').mockReturnValue(OWNER);
      return refused('.*', user, OWNER);
    }

    it.each([0o777, 0o775, 0o757, 0o2770, 0o722])('may not have mode %o', async (mode) => {
      open();
      for (const path of [parent, above]) {
        await chmod(path, mode);
        expect(refusal(directory)).toBe(writable(path));
        await chmod(path, 0o755);
        expect(refusal(directory)).toBeUndefined();
      }
    });

    it('is looked at again by the ping', async () => {
      store = open();
      await store.ping();
      await chmod(parent, 0o777);
      await expect(store.ping()).rejects.toThrow(writable(parent));
    });

    it('is looked at before anything is created', async () => {
      await chmod(parent, 0o777);
      expect(refusal(join(directory, 'and', 'more'))).toBe(writable(parent));
      expect(await readdir(parent)).toEqual([]);
    });

    it('may be open to everybody with the sticky bit, if what is in it is ours', async () => {
      for (const path of [above, parent]) await chmod(path, 0o1777);
      expect(refusal(directory)).toBeUndefined();
      expect(refusal(directory)).toBeUndefined();
      expect((await stat(directory)).mode & 0o777).toBe(0o700);
      expect(refusal(join(parent, 'not-there-yet', 'sessions'))).toBeUndefined();
    });

    it('may not be somebody else’s, sticky bit above it or not', async () => {
      const refused = await foreign(parent, chown);
      expect(refusal(directory)).toMatch(refused);
      await chmod(above, 0o1777);
      expect(refusal(directory)).toMatch(refused);
    });

    it('may be links, if nobody else can change them or what they lead to', async () => {
      await symlink('parent', join(above, 'relative'));
      await symlink(join(above, 'relative'), join(above, 'absolute'));
      await symlink('absolute/../parent/.', join(above, 'winding'));
      expect(refusal(join(above, 'winding', 'sessions-here'))).toBeUndefined();
      expect(await readdir(parent)).toEqual(['sessions-here']);
    });

    it('may not be a link that others can replace', async () => {
      open();
      const shared = join(above, 'shared');
      await mkdir(shared);
      await symlink(parent, join(shared, 'link'));
      await chmod(shared, 0o777);
      expect(refusal(join(shared, 'link', 'sessions-here'))).toBe(writable(shared));
      await chmod(shared, 0o1777);
      expect(refusal(join(shared, 'link', 'sessions-here'))).toBeUndefined();
    });

    it('may not be a link to where others can replace the directory, however it leads there', async () => {
      open();
      await chmod(parent, 0o777);
      await symlink(parent, join(above, 'absolute'));
      await symlink('absolute', join(above, 'relative'));
      for (const name of ['absolute', 'relative']) {
        expect(refusal(join(above, name, 'sessions-here'))).toBe(writable(parent));
      }
      // Out of the shared directory again, and through it all the same.
      for (const folder of [join(parent, 'inner'), join(above, 'closed')])
        await mkdir(folder, { mode: 0o700 });
      await symlink('parent/inner/../../closed', join(above, 'through'));
      expect(refusal(join(above, 'through', 'sessions'))).toBe(writable(parent));
      expect(refusal(join(above, 'closed', 'sessions'))).toBeUndefined();
    });

    it('may not be a link of somebody else', async () => {
      await chmod(above, 0o1777);
      const path = join(above, 'link');
      await symlink(parent, path);
      const refused = await foreign(path, lchown);
      expect(refusal(join(path, 'sessions-here'))).toMatch(refused);
    });

    it('may not be links that lead in a circle', async () => {
      await symlink('there', join(above, 'here'));
      await symlink('here', join(above, 'there'));
      expect(refusal(join(above, 'here', 'sessions-here'))).toMatch(/^it cannot be used: ELOOP/);
    });

    it.each(adapters.map((adapter) => [adapter]))(
      'stops the boot on %s, where others could plant sessions by swapping the directory',
      async (adapter) => {
        await chmod(parent, 0o777);
        @Module({
          imports: [
            SessionModule.forRootAsync({
              useFactory: () => ({ secret: 'x'.repeat(32), store: new FileStore({ directory }) }),
            }),
          ],
        })
        class Root {}
        await expect(createApp(adapter, Root)).rejects.toMatchObject({
          code: 'E_SESSION_CONFIGURATION',
          option: 'FileStore directory',
          message: `Session option FileStore directory: ${writable(parent)}`,
        });
      },
    );
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
      expect(warnings).toEqual([]);
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
      await until(() => warnings.length > 0);
      for (let tick = 0; tick < 20; tick++) await pause(1);
      expect(warnings).toEqual([
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
