import { jest } from '@jest/globals';
import { Module } from '@nestjs/common';
import {
  chmod,
  chown,
  lchown,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FileStore, type FileStoreOptions, SessionConfigurationError, SessionModule } from 'nest-session';
import { adapters, createApp } from '../../support/app.js';
import { FileStores, sha256 } from '../../support/file-stores.js';

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

  /** Everything below the directory that is no folder. */
  async function files(): Promise<string[]> {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name);
  }

  /** What is wrong with a directory. */
  function refusal(path: string): string | undefined {
    try {
      stores.open({ directory: path });
      return undefined;
    } catch (error) {
      if (!(error instanceof SessionConfigurationError)) throw error;
      return error.message.replace('Session option FileStore directory: ', '');
    }
  }

  describe('a directory', () => {
    it('is .sessions where the process runs, if none is named', async () => {
      const here = process.cwd();
      const elsewhere = stores.temporaryDirectory();
      await mkdir(elsewhere, { mode: 0o700 });
      process.chdir(elsewhere);
      try {
        stores.open();
        expect(await readdir('.')).toEqual(['.sessions']);
      } finally {
        process.chdir(here);
      }
    });

    it('may be there already, with other things in it', async () => {
      const there = stores.temporaryDirectory();
      await mkdir(there, { mode: 0o755 });
      await writeFile(join(there, 'README'), 'mine');
      stores.open({ directory: there });
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
      above = stores.temporaryDirectory();
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
});
