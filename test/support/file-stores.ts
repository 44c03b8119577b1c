import { Logger } from '@nestjs/common';
import { createHash } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileStore, type FileStoreOptions, type SessionRecord } from 'nest-session';
import { Clock } from './app.js';

/** The name under which a session or a user is on the disk. */
export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** File stores, in directories that are there for one test. */
export class FileStores {
  readonly clock = new Clock();
  /** What has been logged as a warning since {@link begin}. */
  warnings: string[] = [];
  readonly #made: string[] = [];
  readonly #opened: FileStore[] = [];

  begin(): void {
    this.warnings = [];
    Logger.overrideLogger({
      log: () => undefined,
      error: () => undefined,
      warn: (text) => this.warnings.push(text),
    });
  }

  /** The path of a directory that is not there yet. */
  temporaryDirectory(): string {
    const made = mkdtempSync(join(tmpdir(), 'nest-session-'));
    this.#made.push(made);
    return join(made, 'sessions-here');
  }

  open(options?: FileStoreOptions): FileStore {
    const store = new FileStore(options);
    this.#opened.push(store);
    return store;
  }

  async end(): Promise<void> {
    await Promise.all(this.#opened.splice(0).map((each) => each.close()));
    await Promise.all(this.#made.splice(0).map((path) => rm(path, { recursive: true })));
    Logger.overrideLogger(new Logger());
  }

  record(fields: Record<string, string> = { a: '1' }, seconds = 100): SessionRecord {
    const { now } = this.clock;
    return {
      createdAt: now,
      lastAccessedAt: now,
      expiresAt: now + seconds * 1000,
      fields: new Map(Object.entries(fields)),
    };
  }
}
