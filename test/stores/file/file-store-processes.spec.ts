import { jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { execFile, execFileSync } from 'node:child_process';
import { createHash, randomInt } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import {
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  utimes,
  lutimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { FileStore, type SessionRecord } from 'nest-session';
import { withFileLock } from '../../../lib/stores/file/file-lock.js';
import { StoreProcess } from '../../support/file-store-process.js';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

const ID = '0123456789abcdef'.repeat(4);
const NOTHING = { set: new Map<string, string>(), delete: [], header: {} };

const setting = (fields: Record<string, string>) => ({ ...NOTHING, set: new Map(Object.entries(fields)) });

function record(fields: Record<string, string> = { a: '1' }): SessionRecord {
  const now = Date.now();
  return {
    createdAt: now,
    lastAccessedAt: now,
    expiresAt: now + 3_600_000,
    fields: new Map(Object.entries(fields)),
  };
}

// Nothing here is in a hurry, and the machine may be busy.
jest.setTimeout(120_000);

describe('FileStore, in several processes', () => {
  let directory: string;
  let store: FileStore;
  const processes: StoreProcess[] = [];

  async function start(options?: Parameters<typeof StoreProcess.start>[1]): Promise<StoreProcess> {
    const started = await StoreProcess.start(directory, options);
    processes.push(started);
    return started;
  }

  beforeEach(() => {
    Logger.overrideLogger(false);
    directory = mkdtempSync(join(tmpdir(), 'nest-session-'));
    store = new FileStore({ directory });
  });
  afterEach(async () => {
    await store.close();
    await Promise.all(processes.splice(0).map((each) => each.kill()));
    await rm(directory, { recursive: true });
    Logger.overrideLogger(new Logger());
  });

  const pathOf = (id: string): string =>
    join(directory, 'sessions', sha256(id).slice(0, 2), `${sha256(id)}.json`);

  const lockOf = (id: string): string => pathOf(id).replace(/json$/, 'lock');

  /** Everything below the directory that is no folder. */
  async function files(): Promise<string[]> {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name);
  }

  it('ends by itself when it has nothing more to do, and the session is there for the next', async () => {
    const first = await start();
    expect(await first.call('create', ID, record({ a: 'kept' }))).toBe('created');
    expect(await first.end()).toBe(0);
    const second = await start();
    expect((await second.call<SessionRecord>('load', ID)).fields.get('a')).toBe('kept');
  });

  it('loses no field of a session that three write at once', async () => {
    await store.create(ID, record({}));
    const names = (prefix: string): string[] =>
      Array.from({ length: 200 }, (_, index) => `${prefix}${index}`);
    const writers = await Promise.all(
      ['a', 'b', 'c'].map(async (prefix) => [await start(), prefix] as const),
    );
    const saved = writers.map(([writer, prefix]) => writer.call('commitEach', ID, names(prefix)));
    expect(await Promise.all(saved)).toEqual([true, true, true]);
    const fields = (await store.load(ID))?.fields;
    expect([...(fields?.keys() ?? [])].toSorted()).toEqual(['a', 'b', 'c'].flatMap(names).toSorted());
    expect(await files()).toEqual([`${sha256(ID)}.json`]);
  });

  it('has one winner of two rotations, and nothing of the other', async () => {
    const [one, two] = await Promise.all([start(), start()]);
    for (let round = 0; round < 60; round++) {
      const id = `${round}`;
      await store.create(id, { ...record(), userId: 'alice' });
      const outcomes = await Promise.all([
        one.call('rotate', id, `one ${round}`, setting({ by: 'one' })),
        two.call('rotate', id, `two ${round}`, setting({ by: 'two' })),
      ]);
      expect(outcomes.toSorted()).toEqual(['gone', 'saved']);
      const winner = outcomes[0] === 'saved' ? 'one' : 'two';
      const listed = await store.listByUser('alice');
      expect([...listed].map(([key, { fields }]) => [key, fields.get('by')])).toEqual([
        [`${winner} ${round}`, winner],
      ]);
      expect(await store.destroy(`${winner} ${round}`)).toBe(true);
      expect(await files()).toEqual([]);
    }
  });

  it('never brings back what another has destroyed', async () => {
    const [one, two] = await Promise.all([start(), start()]);
    for (let round = 0; round < 60; round++) {
      const id = `${round}`;
      await store.create(id, { ...record(), userId: 'alice' });
      const [destroyed] = await Promise.all([
        one.call('destroy', id),
        two.call('commit', id, setting({ a: '2' })),
        two.call('touch', id, Date.now() + 10_000_000),
      ]);
      expect(destroyed).toBe(true);
      expect(await store.load(id)).toBeUndefined();
      expect(await files()).toEqual([]);
    }
  });

  describe('killed', () => {
    it('at any moment of writing leaves the old version or the new, and keeps nobody from the next', async () => {
      await store.create(ID, record({ first: '', second: '' }));
      let traces = 0;
      let next = start();
      for (let round = 0; round < 30; round++) {
        const writer = await next;
        next = start();
        let saved = 0;
        const enough = randomInt(1, 12);
        await new Promise<void>((resolve) => {
          writer.onProgress = (number) => {
            saved = number;
            // Not the moment it has told of, but one anywhere in the commits after it.
            if (number === enough) setTimeout(resolve, Math.random() * 4);
          };
          void writer.call('commitPairs', ID);
        });
        await writer.kill();
        traces += (await files()).length - 1;

        const text = await readFile(pathOf(ID), 'utf8');
        const { first, second } = (JSON.parse(text) as { fields: Record<string, string> }).fields;
        expect(first).toBe(second);
        expect([`${saved}`.repeat(10_000), `${saved + 1}`.repeat(10_000)]).toContain(first);
        expect(await store.commit(ID, setting({ round: `${round}` }))).toBe('saved');
        expect((await store.load(ID))?.fields.get('first')).toBe(first);
        expect((await store.load(ID))?.fields.get('round')).toBe(`${round}`);
      }
      await (await next).kill();
      // Most were killed in the middle of something.
      expect(traces).toBeGreaterThan(5);
      await store.sweep();
      expect(await files()).toEqual([`${sha256(ID)}.json`]);
    });

    it('with the lock in its hands keeps nobody waiting', async () => {
      await store.create(ID, record());
      const holder = await start();
      await holder.call('hold', lockOf(ID));
      expect(await readlink(lockOf(ID))).toContain(`.${holder.pid}.`);
      const waiting = store.commit(ID, setting({ a: '2' }));
      await holder.kill();
      expect(await waiting).toBe('saved');
      expect(await files()).toEqual([`${sha256(ID)}.json`]);
    });

    it('and not yet buried, it counts as dead', async () => {
      // A zombie still has its pid: what runs as PID 1 of a container often waits for nobody.
      const holder = await start();
      await holder.call('hold', lockOf(ID));
      const text = await readlink(lockOf(ID));
      const parent = execFile('sh', ['-c', 'sleep 1000 & echo $!; exec tail -f /dev/null']);
      try {
        const pid = await new Promise<string>((resolve) => {
          parent.stdout?.once('data', (data: Buffer) => resolve(`${data}`.trim()));
        });
        const stat = async (of: unknown): Promise<string[]> =>
          (await readFile(`/proc/${of}/stat`, 'utf8')).split(' ');
        // A shell would bury its child, tail does not.
        while ((await stat(parent.pid))[1] !== '(tail)');
        process.kill(Number(pid), 'SIGKILL');
        while ((await stat(pid))[2] !== 'Z');
        await holder.kill();
        const [host, , , instance] = text.split('.');
        await rm(lockOf(ID));
        await symlink([host, pid, (await stat(pid))[21], instance].join('.'), lockOf(ID));
        expect(await store.create(ID, record())).toBe('created');
      } finally {
        parent.kill('SIGKILL');
      }
    });

    it('its lock is broken by three at once, and still is held by one at a time', async () => {
      const lock = join(directory, 'sessions', '00', `${'0'.repeat(64)}.lock`);
      const counter = join(directory, 'counter');
      const holder = await start();
      await holder.call('hold', lock);
      const dead = await readlink(lock);
      await holder.kill();
      await rm(lock);
      await writeFile(counter, '0');
      const breakers = await Promise.all([start(), start(), start()]);
      const rounds = 150;
      for (let round = 0; round < rounds; round++) {
        await symlink(dead, lock);
        await Promise.all(breakers.map((breaker) => breaker.call('increment', lock, counter)));
        expect(await readFile(counter, 'utf8')).toBe(`${3 * (round + 1)}`);
        expect(await readdir(dirname(lock))).toEqual([]);
      }
    });

    it('while it broke a lock, it leaves two that are broken', async () => {
      const lock = join(directory, 'sessions', '00', `${'0'.repeat(64)}.lock`);
      const [first, second] = await Promise.all([start(), start()]);
      await first.call('hold', lock);
      const holder = await readlink(lock);
      const suffix = createHash('sha256').update(holder).digest('base64url').slice(0, 16);
      await second.call('hold', `${lock}.${suffix}`);
      await Promise.all([first.kill(), second.kill()]);
      expect(await withFileLock(lock, () => readdir(dirname(lock)))).toEqual([`${'0'.repeat(64)}.lock`]);
      expect(await readdir(dirname(lock))).toEqual([]);
    });
  });

  describe('a lock', () => {
    /** A lock as a process that is gone has left it, but for what is said here. */
    async function leave(changes: { host?: string; pid?: number; start?: string }): Promise<void> {
      const holder = await start();
      await holder.call('hold', lockOf(ID));
      const [host, pid, begun, instance] = (await readlink(lockOf(ID))).split('.');
      await holder.kill();
      await rm(lockOf(ID));
      const text = [changes.host ?? host, changes.pid ?? pid, changes.start ?? begun, instance].join('.');
      await symlink(text, lockOf(ID));
    }

    it('is broken when its holder’s pid is another process’s now', async () => {
      await leave({ pid: (await start()).pid });
      expect(await store.create(ID, record())).toBe('created');
    });

    it('is broken when its holder’s pid is ours now', async () => {
      await leave({ pid: process.pid });
      expect(await store.create(ID, record())).toBe('created');
    });

    it.each(['elsewhere', ''])('of another host, %j, is broken when it is ten seconds old', async (host) => {
      await leave({ host });
      const created = store.create(ID, record());
      const past = new Date(Date.now() - 11_000);
      await lutimes(lockOf(ID), past, past);
      expect(await created).toBe('created');
    });

    it('that is none is broken when it is ten seconds old', async () => {
      await mkdir(dirname(lockOf(ID)), { recursive: true });
      await writeFile(lockOf(ID), 'no lock');
      const past = new Date(Date.now() - 11_000);
      await utimes(lockOf(ID), past, past);
      expect(await store.create(ID, record())).toBe('created');
    });

    it('of a process that lives is waited for, not for ever, and not broken', async () => {
      await store.create(ID, record());
      const holder = await start();
      await holder.call('hold', lockOf(ID));
      const past = new Date(Date.now() - 100_000);
      await lutimes(lockOf(ID), past, past);
      const attempts = [store.commit(ID, NOTHING), store.touch(ID, Date.now()), store.destroy(ID)];
      const outcomes = await Promise.allSettled(attempts);
      expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
      expect((outcomes[0] as PromiseRejectedResult).reason).toMatchObject({
        message: `${lockOf(ID)} was not free within 5000 ms`,
      });
      expect(await store.load(ID)).toBeDefined();
      expect(await readlink(lockOf(ID))).toContain(`.${holder.pid}.`);
      await holder.kill();
      expect(await store.destroy(ID)).toBe(true);
    });

    it('that another has taken meanwhile is not taken away from it', async () => {
      const lock = join(directory, 'a.lock');
      await withFileLock(lock, async () => {
        await rm(lock);
        await symlink('another', lock);
      });
      expect(await readlink(lock)).toBe('another');
    });

    it('of the dead is swept up, one of the living is not', async () => {
      const [living, dead] = await Promise.all([start(), start()]);
      await living.call('hold', lockOf('living'));
      await dead.call('hold', lockOf('dead'));
      await dead.kill();
      await store.sweep();
      expect(await files()).toEqual([`${sha256('living')}.lock`]);
    });

    it('holds within a process, one step after the other, whatever becomes of them', async () => {
      const lock = join(directory, 'a.lock');
      const order: string[] = [];
      const step = (name: string, fails: boolean) => async (): Promise<string> => {
        order.push(`${name} begins`);
        await readdir(directory);
        order.push(`${name} ends`);
        if (fails) throw new Error(name);
        return name;
      };
      const outcomes = await Promise.allSettled([
        withFileLock(lock, step('one', true)),
        withFileLock(lock, step('two', false)),
        withFileLock(lock, step('three', false)),
      ]);
      expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
      expect(order.join(', ')).toBe('one begins, one ends, two begins, two ends, three begins, three ends');
      expect(await readdir(directory)).toEqual([]);
    });
  });

  it('removes the temporaries of the dead at once, those of the living not', async () => {
    await store.create(ID, record());
    const [living, dead] = await Promise.all([start(), start()]);
    const temporaries: string[] = [];
    for (const each of [living, dead]) {
      await each.call('hold', lockOf(`${each.pid}`));
      temporaries.push(`${pathOf(ID)}.${await readlink(lockOf(`${each.pid}`))}.0.tmp`);
      await writeFile(temporaries.at(-1) as string, '');
    }
    await dead.kill();
    await store.sweep();
    const left = await readdir(dirname(pathOf(ID)));
    expect(left.filter((name) => name.endsWith('.tmp'))).toEqual([temporaries[0].split('/').at(-1)]);
  });

  it('without a file descriptor left is out of reach, and works again with one', async () => {
    const process = await start({ shell: 'ulimit -n 256' });
    await process.call('create', ID, record());
    for (const [method, ...args] of [
      ['load', ID],
      ['create', 'another', record()],
      ['commit', ID, setting({ a: '2' })],
      ['destroy', ID],
    ] as const) {
      expect(await process.call('withoutDescriptors', method, ...args)).toBe('EMFILE');
    }
    expect((await process.call<SessionRecord>('load', ID)).fields.get('a')).toBe('1');
    expect(await process.call('commit', ID, setting({ a: '2' }))).toBe('saved');
    expect(await files()).toEqual([`${sha256(ID)}.json`]);
  });

  it('waits for the disk when it is durable: file, then name, then folder', async () => {
    if (!available('strace', ['-V'])) return;
    const log = join(directory, 'strace.log');
    const process = await start({
      durable: true,
      wrapper: [
        'strace',
        '-f',
        '-y',
        '-e',
        'trace=fsync,fdatasync,rename,renameat,renameat2,unlink',
        '-o',
        log,
      ],
    });
    await process.call('create', ID, record());
    await writeFile(log, '');
    await process.call('commit', ID, setting({ a: '2' }));
    await process.call('destroy', ID);
    await process.end();
    const calls = (await readFile(log, 'utf8'))
      .split('\n')
      .map((line) => line.replaceAll(dirname(pathOf(ID)), '').replaceAll(sha256(ID), ''))
      .map((line) => /(fsync|rename|unlink)\w*\((?:\d+<)?"?(.*?)[">]/.exec(line))
      .flatMap((call) => (call ? [`${call[1]} ${call[2].replace(/\.json\..*/, 'temporary')}`] : []));
    expect(calls.map((call) => call.replaceAll('/', '').trim())).toEqual([
      'fsync temporary',
      'rename temporary',
      'fsync',
      'unlink .lock',
      'unlink .json',
      'fsync',
      'unlink .lock',
    ]);
  });

  describe('on a full disk', () => {
    /** A process with a small file system to itself. */
    const confined = (options: string): Promise<StoreProcess> =>
      start({
        wrapper: ['unshare', '-rm'],
        shell: `mount -t tmpfs -o ${options},mode=700 tmpfs '${directory}'`,
      });

    it('refuses what it cannot write, and keeps what was there', async () => {
      if (!available('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'tmpfs', tmpdir()])) return;
      const process = await confined('size=128k');
      const text = 'x'.repeat(20_000);
      expect(await process.call('create', ID, record({ a: '1', b: text }))).toBe('created');
      for (const left of [0, 4096, 8192, 16_384]) {
        await process.call('fill', left);
        for (const attempt of [
          process.call('commit', ID, setting({ a: '2' })),
          process.call('touch', ID, Date.now() + 10_000_000),
          process.call('rotate', ID, 'new', setting({ a: '2' })),
          process.call('create', 'another', record({ b: text })),
        ]) {
          await expect(attempt).rejects.toMatchObject({ code: 'ENOSPC' });
        }
        const loaded = await process.call<SessionRecord>('load', ID);
        expect([loaded.fields.get('a'), loaded.fields.get('b')]).toEqual(['1', text]);
        expect(await process.call('load', 'new')).toBeUndefined();
        expect(await process.call('files')).toEqual([`${sha256(ID)}.json`]);
      }
      await process.call('fill', 0);
      await expect(process.call('ping')).rejects.toMatchObject({ code: 'ENOSPC' });
      await process.call('empty');
      await process.call('ping');
      expect(await process.call('commit', ID, setting({ a: '2' }))).toBe('saved');
      expect((await process.call<SessionRecord>('load', ID)).fields.get('a')).toBe('2');
      await process.call('fill', 0);
      expect(await process.call('destroy', ID)).toBe(true);
      expect(await process.call('files')).toEqual([]);
    });

    it('of which only the inodes are used up, makes every step fail once, and leaves nothing half done', async () => {
      if (!available('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'tmpfs', tmpdir()])) return;
      const process = await confined('size=1m,nr_inodes=40');
      const outcomes: string[] = [];
      for (let left = 0; outcomes.at(-1) !== 'created'; left++) {
        await process.call('fillInodes', left);
        const created = process.call('create', ID, { ...record(), userId: 'alice' });
        outcomes.push((await created.catch((error: NodeJS.ErrnoException) => error.code)) as string);
        await process.call('empty');
        if (outcomes.at(-1) === 'created') break;
        // A marker without a session is what the index allows, until somebody looks.
        expect(await process.call('listByUser', 'alice')).toEqual(new Map());
        expect(await process.call('files')).toEqual([]);
      }
      // Folders, lock, folders, marker, temporary: each of them was refused.
      expect(outcomes.length).toBeGreaterThan(3);
      expect(new Set(outcomes)).toEqual(new Set(['ENOSPC', 'created']));
      expect([...(await process.call<Map<string, unknown>>('listByUser', 'alice')).keys()]).toEqual([ID]);
    });

    it('or above a limit of the process, the same', async () => {
      const process = await start({ shell: 'ulimit -f 16' });
      expect(await process.call('create', ID, { ...record(), userId: 'alice' })).toBe('created');
      for (const [method, ...args] of [
        ['commit', ID, setting({ a: 'x'.repeat(20_000) })],
        ['rotate', ID, 'new', setting({ a: 'x'.repeat(20_000) })],
        ['create', 'another', record({ a: 'x'.repeat(20_000) })],
      ] as const) {
        await expect(process.call(method, ...args)).rejects.toMatchObject({ code: 'EFBIG' });
        // What is marked as alice's and was not written, until somebody looks.
        expect([...(await store.listByUser('alice')).keys()]).toEqual([ID]);
        expect((await store.load(ID))?.fields.get('a')).toBe('1');
        expect((await files()).toSorted()).toEqual([`${sha256(ID)}.json`, sha256(ID)].toSorted());
      }
      expect(await process.call('commit', ID, setting({ a: '2' }))).toBe('saved');
    });
  });

  function available(command: string, args: readonly string[]): boolean {
    try {
      execFileSync(command, args, { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  }
});
