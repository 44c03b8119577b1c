import { Logger } from '@nestjs/common';
import { dirname, join } from 'node:path';
import {
  listFolder,
  makeFolder,
  MAX_BYTES,
  readGuarded,
  removeEntry,
  replaceFile,
  tryToWrite,
} from './file-access.js';
import { decodeDocument, encodeDocument, nameOf, type StoredSession } from './file-document.js';
import { withFileLock } from './file-lock.js';
import { FileUserIndex } from './file-user-index.js';
import { tooLarge } from '../too-large.js';

/** The document found under a session's name. */
export type FoundSession =
  ({ readonly state: 'live' | 'expired' } & StoredSession) | { readonly state: 'undecodable' };

/** True if the document is not of a live session. */
export function isDead(found: FoundSession): boolean {
  return found.state !== 'live';
}

/** The user in whose index the document is listed; undefined if in none. */
export function ownerOf(found: FoundSession | undefined): string | undefined {
  return !found || found.state === 'undecodable' ? undefined : found.record.userId;
}

/** The file name of a session's document. */
export const DOCUMENT = /^[0-9a-f]{64}\.json$/;

/** The names of the 256 folders over which sessions are spread. */
export const SHARDS: readonly string[] = Array.from({ length: 256 }, (_, shard) =>
  shard.toString(16).padStart(2, '0'),
);

/**
 * The documents of the sessions and the index of their users, both by name: SHA-256 of the id. A caller that writes or
 * removes must hold the session's lock, {@link FileSessions.locked}.
 */
export class FileSessions {
  readonly users: FileUserIndex;
  readonly #root: string;
  readonly #logger = new Logger('FileStore');

  constructor(
    directory: string,
    private readonly durable: boolean,
    private readonly clock: () => number,
  ) {
    this.#root = join(directory, 'sessions');
    this.users = new FileUserIndex(join(directory, 'users'), durable);
  }

  /** The path of a file of the session: its document, its lock or a temporary file. */
  path(name: string, suffix: string): string {
    return join(this.#root, name.slice(0, 2), name + suffix);
  }

  /** The names of all files in a shard: documents, locks, temporary files, and files that are not of this store. */
  async filesIn(shard: string): Promise<string[]> {
    return (await listFolder(join(this.#root, shard))).map(({ name }) => name);
  }

  /** The names of all sessions, live or not. */
  async *names(): AsyncGenerator<string> {
    for (const shard of SHARDS) {
      for (const file of await this.filesIn(shard)) if (DOCUMENT.test(file)) yield file.slice(0, 64);
    }
  }

  /** Rejects if sessions cannot be written. */
  async ping(): Promise<void> {
    const path = this.path(nameOf('ping'), '.json');
    await makeFolder(dirname(path), this.durable);
    await tryToWrite(path);
  }

  /** Runs the step under the session's lock: no other step, in this process or another, can change the session. */
  locked<T>(name: string, step: () => Promise<T>): Promise<T> {
    return withFileLock(this.path(name, '.lock'), step);
  }

  async read(name: string): Promise<FoundSession | undefined> {
    const text = await readGuarded(this.path(name, '.json'));
    if (text === undefined) return undefined;
    const session = decodeDocument(text, name);
    if (!session) return { state: 'undecodable' };
    return { state: session.record.expiresAt > this.clock() ? 'live' : 'expired', ...session };
  }

  async readLive(name: string): Promise<StoredSession | undefined> {
    const found = await this.read(name);
    return found?.state === 'live' ? found : undefined;
  }

  /** Writes the session. `before` is the user that it had before. */
  async write(session: StoredSession, before?: string): Promise<void> {
    const name = nameOf(session.id);
    const document = Buffer.from(encodeDocument(session));
    if (document.length > MAX_BYTES) throw tooLarge(session.record, document.length, MAX_BYTES);
    const [was, is] = [before, session.record.userId].map((user) =>
      user === undefined ? user : nameOf(user),
    );
    if (is !== undefined && is !== was) await this.users.add(is, name);
    await replaceFile(this.path(name, '.json'), document, this.durable);
    if (was !== undefined && was !== is) await this.users.remove(was, name);
  }

  async remove(name: string, userId: string | undefined): Promise<void> {
    await removeEntry(this.path(name, '.json'), this.durable);
    if (userId !== undefined) await this.users.remove(nameOf(userId), name);
  }

  /** Under the session's lock, reads its document and removes it if `which` returns true. Returns the document. */
  erase(name: string, which: (found: FoundSession) => boolean): Promise<FoundSession | undefined> {
    return this.locked(name, async () => {
      const found = await this.read(name);
      if (!found || !which(found)) return found;
      await this.remove(name, ownerOf(found));
      if (found.state === 'undecodable') {
        this.#logger.warn(
          `${this.path(name, '.json')} is not what FileStore writes, and counts as no session.`,
        );
      }
      return found;
    });
  }

  /** Reads a live session under its lock. Removes it from the user's index if it is not the user's. */
  correct(user: string, name: string): Promise<StoredSession | undefined> {
    return this.locked(name, async () => {
      const found = await this.readLive(name);
      if (!isOf(user, found)) await this.users.remove(user, name);
      return found;
    });
  }
}

/** True if the session is of the user with this name. */
export function isOf(user: string, session: StoredSession | undefined): boolean {
  const userId = session?.record.userId;
  return userId !== undefined && nameOf(userId) === user;
}
