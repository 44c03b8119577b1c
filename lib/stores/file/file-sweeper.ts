import { Logger } from '@nestjs/common';
import { removeEntry } from './file-access.js';
import { hasDied } from './process-tag.js';
import { breakIfDead, LOCK_SUFFIX } from './file-lock.js';
import { DOCUMENT, type FileSessions, isDead, isOf, SHARDS } from './file-sessions.js';
import { everyMilliseconds } from '../../util/background-timer.js';

/** The suffix of a temporary file: it has the process tag of its writer. */
const TEMPORARY_SUFFIX = /^\.json\.(.+)\.\d+\.tmp$/;

/**
 * Removes expired and undecodable sessions, and the locks and temporary files of dead processes. Files with other names
 * stay.
 */
export class FileSweeper {
  readonly #logger = new Logger('FileStore');
  #timer: NodeJS.Timeout | undefined;
  #walk: Promise<unknown> | undefined;
  #failed = false;

  constructor(private readonly sessions: FileSessions) {}

  /** Sweeps one shard after the other, all of them within `interval` milliseconds, in the background. */
  start(interval: number): void {
    // Random, so that processes that share the directory sweep different shards.
    let shard = Math.floor(Math.random() * SHARDS.length);
    const tick = (): void => {
      if (this.#walk) return;
      shard = (shard + 1) % SHARDS.length;
      this.#walk = this.#sweepQuietly(SHARDS[shard]).finally(() => (this.#walk = undefined));
    };
    this.#timer = everyMilliseconds(interval / SHARDS.length, tick);
  }

  /** Ends sweeping in the background, after the current file. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    await this.#walk;
  }

  /** Sweeps all shards now. Returns the number of expired sessions. */
  async sweep(): Promise<number> {
    let expired = 0;
    for (const shard of SHARDS) {
      for await (const state of this.#sweep(shard)) if (state === 'expired') expired++;
    }
    return expired;
  }

  async #sweepQuietly(shard: string): Promise<void> {
    try {
      for await (const _ of this.#sweep(shard)) if (!this.#timer) return;
      this.#failed = false;
    } catch (error) {
      // Logged once until it works again, instead of many times a minute.
      if (!this.#failed) this.#logger.warn(`Expired sessions cannot be removed: ${String(error)}`);
      this.#failed = true;
    }
  }

  /** Sweeps a shard, one file at a time, so that requests are served in between. Yields the state of each. */
  async *#sweep(shard: string): AsyncGenerator<string | undefined> {
    for (const file of await this.sessions.filesIn(shard)) yield await this.#sweepFile(file);
    for (const user of await this.sessions.users.usersIn(shard)) {
      for (const name of await this.sessions.users.sessionsOf(user)) {
        yield undefined;
        if (!isOf(user, await this.sessions.readLive(name))) await this.sessions.correct(user, name);
      }
    }
  }

  async #sweepFile(file: string): Promise<string | undefined> {
    const [name, suffix] = [file.slice(0, 64), file.slice(64)];
    if (DOCUMENT.test(file)) {
      const found = await this.sessions.read(name);
      if (found && isDead(found)) return (await this.sessions.erase(name, isDead))?.state;
    } else if (/^[0-9a-f]{64}$/.test(name)) {
      const path = this.sessions.path(name, suffix);
      const maker = TEMPORARY_SUFFIX.exec(suffix)?.[1];
      if (LOCK_SUFFIX.test(suffix)) await breakIfDead(path, this.sessions.path(name, '.lock'));
      else if (maker !== undefined && (await hasDied(maker, path))) await removeEntry(path, false);
    }
    return undefined;
  }
}
