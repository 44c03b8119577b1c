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

/** What is found under a session's name. */
export type FoundSession =
  ({ readonly state: 'live' | 'expired' } & StoredSession) | { readonly state: 'undecodable' };

/** Whether it was a session once, or never. */
export function isDead(found: FoundSession): boolean {
  return found.state !== 'live';
}

/** Whose marker there is, if there is one. */
export function ownerOf(found: FoundSession | undefined): string | undefined {
  return !found || found.state === 'undecodable' ? undefined : found.record.userId;
}

/** What a session's document is called. */
export const DOCUMENT = /^[0-9a-f]{64}\.json$/;

/** The 256 folders that sessions are spread over. */
export const SHARDS: readonly string[] = Array.from({ length: 256 }, (_, shard) =>
  shard.toString(16).padStart(2, '0'),
);

/**
 * The sessions' documents and the index of their users, by name: SHA-256 of the id. What writes or removes must
 * hold the session's lock, {@link FileSessions.locked}.
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

  /** Where files of the session lie: its document, its lock, temporaries. */
  path(name: string, suffix: string): string {
    return join(this.#root, name.slice(0, 2), name + suffix);
  }

  /** What lies in a shard: documents, locks, temporaries, and what is not ours. */
  async filesIn(shard: string): Promise<string[]> {
    return (await listFolder(join(this.#root, shard))).map(({ name }) => name);
  }

  /** The names of all sessions, live or not. */
  async *names(): AsyncGenerator<string> {
    for (const shard of SHARDS) {
      for (const file of await this.filesIn(shard)) if (DOCUMENT.test(file)) yield file.slice(0, 64);
    }
  }

  /** Rejects if no session can be written. */
  async ping(): Promise<void> {
    const path = this.path(nameOf('ping'), '.json');
    await makeFolder(dirname(path), this.durable);
    await tryToWrite(path);
  }

  /** Runs the step while nobody else, in this process or another, changes the session. */
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

  /** Writes the session; `before` is whose it was. */
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

  /** Takes the session's lock and removes what is found then, if it is to be removed; what it was. */
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

  /** The live session, seen under its lock; the marker that says it is the user's is removed, if it is not. */
  correct(user: string, name: string): Promise<StoredSession | undefined> {
    return this.locked(name, async () => {
      const found = await this.readLive(name);
      if (!isOf(user, found)) await this.users.remove(user, name);
      return found;
    });
  }
}

/** Whether the session is the user's, who is given by name. */
export function isOf(user: string, session: StoredSession | undefined): boolean {
  const userId = session?.record.userId;
  return userId !== undefined && nameOf(userId) === user;
}
