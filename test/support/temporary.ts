import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileStore, type FileStoreOptions } from 'nest-session';

const made: string[] = [];

/** A new empty folder, which {@link removeTemporary} removes. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nest-session-'));
  made.push(folder);
  return folder;
}

/** A FileStore in a folder of its own. */
export async function temporaryFileStore(options: FileStoreOptions = {}): Promise<FileStore> {
  return new FileStore({ ...options, directory: await temporaryFolder() });
}

export async function removeTemporary(): Promise<void> {
  await Promise.all(made.splice(0).map((folder) => rm(folder, { recursive: true, force: true })));
}
