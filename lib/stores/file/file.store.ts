import { resolve } from 'node:path';
import { SessionConfigurationError } from '../../errors.js';
import { oneOf } from '../../util/checks.js';
import { parseDuration } from '../../util/duration.js';
import { checkDirectory } from './file-access.js';
import { nameOf } from './file-document.js';
import { FileSessions, isDead, ownerOf } from './file-sessions.js';
import { FileSweeper } from './file-sweeper.js';
import { mergedRecord } from '../merged-record.js';
import type { DeadRecord, SessionDelta, SessionRecord, SessionStore } from '../session-store.js';

/** Options of {@link FileStore}. */
export interface FileStoreOptions {
  /**
   * The directory of the sessions, relative to the working directory. It is created when missing. It must belong to
   * this user, and others must not be able to write to it. Each parent must belong to root or this user, and either be
   * closed to the writes of others or have the sticky bit (the rule of sshd's StrictModes). Nothing is checked on
   * Windows, which has no such modes.
   * @default '.sessions'
   */
  directory?: string;
  /**
   * `true`: each write waits for the disk (fsync of file and folder), so that it survives a loss of power. A crash of
   * the process loses nothing either way.
   * @default false
   */
  durable?: boolean;
  /**
   * The time in which the whole directory is searched once for expired sessions: seconds, or text such as `'10m'`. An
   * expired session is never returned, removed or not.
   * @default '10m'
   */
  sweepInterval?: number | string;
  /**
   * The current time in milliseconds; for tests.
   * @default Date.now
   */
  clock?: () => number;
}

/**
 * Keeps each session as a readable JSON document in a directory, for all processes of one host: PM2, the cluster
 * module, restarts. Every change is made under the session's lock, and is complete or not made at all.
 *
 * A directory or an option that cannot be used throws {@link SessionConfigurationError}.
 */
export class FileStore implements SessionStore {
  readonly #directory: string;
  readonly #sessions: FileSessions;
  readonly #sweeper: FileSweeper;

  constructor(options: FileStoreOptions = {}) {
    const { directory = '.sessions', durable = false, sweepInterval = '10m', clock = Date.now } = options;
    if (typeof directory !== 'string' || directory === '' || directory.includes('\0')) {
      throw SessionConfigurationError.value('FileStore directory', directory, 'the path of a directory');
    }
    oneOf(durable, 'FileStore durable', [true, false]);
    const interval = parseDuration(sweepInterval, 'FileStore sweepInterval');
    this.#directory = resolve(directory);
    this.#checkDirectory();
    this.#sessions = new FileSessions(this.#directory, durable, clock);
    this.#sweeper = new FileSweeper(this.#sessions);
    this.#sweeper.start(interval);
  }

  create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    const taken = { id, record: { ...record, fields: new Map(record.fields) } };
    const name = nameOf(id);
    return this.#sessions.locked(name, async () => {
      const found = await this.#sessions.read(name);
      if (found?.state === 'live') return 'exists';
      await this.#sessions.write(taken, ownerOf(found));
      return 'created';
    });
  }

  async load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    const name = nameOf(id);
    let found = await this.#sessions.read(name);
    if (found && isDead(found)) found = await this.#sessions.erase(name, isDead);
    if (found?.state === 'live') return found.record;
    if (found) report?.(found.state);
    return undefined;
  }

  touch(id: string, expiresAt: number): Promise<'saved' | 'gone'> {
    return this.commit(id, { set: new Map(), delete: [], header: { expiresAt } });
  }

  commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const name = nameOf(id);
    const change = copyOf(delta);
    return this.#sessions.locked(name, async () => {
      const found = await this.#sessions.readLive(name);
      if (!found) return 'gone';
      await this.#sessions.write({ id, record: mergedRecord(found.record, change) }, found.record.userId);
      return 'saved';
    });
  }

  rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    if (id === newId) return this.commit(id, delta);
    const name = nameOf(id);
    const change = copyOf(delta);
    // Under the lock of the new name too: otherwise its entry in the user's index could be removed before the session
    // is written. The locks are sorted, so that two rotations that need the same two cannot wait for each other.
    const [first, second] = [name, nameOf(newId)].sort();
    return this.#sessions.locked(first, () =>
      this.#sessions.locked(second, async () => {
        const found = await this.#sessions.readLive(name);
        if (!found) return 'gone';
        await this.#sessions.write({ id: newId, record: mergedRecord(found.record, change) });
        await this.#sessions.remove(name, found.record.userId);
        return 'saved';
      }),
    );
  }

  async destroy(id: string): Promise<boolean> {
    const found = await this.#sessions.erase(nameOf(id), () => true);
    return found?.state === 'live';
  }

  async listByUser(userId: string): Promise<Map<string, SessionRecord>> {
    const user = nameOf(userId);
    const listed = new Map<string, SessionRecord>();
    const seen = new Set<string>();
    const unseen = async (): Promise<string[]> =>
      (await this.#sessions.users.sessionsOf(user)).filter((name) => !seen.has(name));
    // Repeats until a pass finds nothing new: a session that was rotated meanwhile is found under its new name.
    for (let names = await unseen(); names.length > 0; names = await unseen()) {
      for (const name of names) {
        seen.add(name);
        let found = await this.#sessions.readLive(name);
        // Possibly in the index but not written yet. Under the lock, it is written, or never will be.
        if (found?.record.userId !== userId) found = await this.#sessions.correct(user, name);
        if (found?.record.userId === userId) listed.set(found.id, found.record);
      }
    }
    return listed;
  }

  async count(): Promise<number> {
    let live = 0;
    for await (const name of this.#sessions.names()) if (await this.#sessions.readLive(name)) live++;
    return live;
  }

  async clear(): Promise<void> {
    for await (const name of this.#sessions.names()) await this.#sessions.erase(name, () => true);
  }

  sweep(): Promise<number> {
    return this.#sweeper.sweep();
  }

  close(): Promise<void> {
    return this.#sweeper.stop();
  }

  async ping(): Promise<void> {
    this.#checkDirectory();
    await this.#sessions.ping();
  }

  #checkDirectory(): void {
    checkDirectory(this.#directory, ['sessions', 'users']);
  }
}

/** Copies a delta, because the caller may change its own while the lock is not free. */
function copyOf({ set, delete: removed, header }: SessionDelta): SessionDelta {
  return { set: new Map(set), delete: [...removed], header: { ...header } };
}
