import { open, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { failedWith, listFolder, makeFolder, removeEntry, syncFolder } from './file-access.js';

const NAME = /^[0-9a-f]{64}$/;

/**
 * The sessions of each user: a folder for each user, and in it an empty file for each session. The file is created
 * before the session and removed after it, so a crash may leave a file too many, but never one too few.
 */
export class FileUserIndex {
  constructor(
    private readonly root: string,
    private readonly durable: boolean,
  ) {}

  async add(user: string, session: string): Promise<void> {
    const folder = this.#folder(user);
    for (let attempts = 10; ; attempts--) {
      try {
        await (await open(join(folder, session), 'wx', 0o600)).close();
        if (this.durable) await syncFolder(folder);
        return;
      } catch (error) {
        if (failedWith(error, 'EEXIST')) return;
        // No folder: this is the user's first session, or the last one was just removed.
        if (!failedWith(error, 'ENOENT') || attempts === 0) throw error;
        await makeFolder(folder, this.durable);
      }
    }
  }

  async remove(user: string, session: string): Promise<void> {
    const folder = this.#folder(user);
    await removeEntry(join(folder, session), false);
    try {
      await rmdir(folder);
    } catch (error) {
      if (!failedWith(error, 'ENOENT', 'ENOTEMPTY', 'EEXIST')) throw error;
    }
  }

  /** The names of the sessions in the user's folder. */
  async sessionsOf(user: string): Promise<string[]> {
    return (await listFolder(this.#folder(user))).map(({ name }) => name).filter((name) => NAME.test(name));
  }

  /** The names of the users in a shard: those that begin with its two digits. */
  async usersIn(shard: string): Promise<string[]> {
    return (await listFolder(join(this.root, shard)))
      .filter((entry) => entry.isDirectory() && NAME.test(entry.name))
      .map(({ name }) => name);
  }

  #folder(user: string): string {
    return join(this.root, user.slice(0, 2), user);
  }
}
