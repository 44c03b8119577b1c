import { accessSync, chmodSync, constants, type Dirent, lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { chmod, lstat, mkdir, open, readdir, rename, rm, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { SessionConfigurationError } from '../../errors.js';
import { processTag } from './process-tag.js';
import { checkParents, refuseDirectory } from './file-parents.js';

/** The largest document to read or write, in bytes. */
export const MAX_BYTES = 8 * 1024 * 1024;

/** The errors of opening a link (O_NOFOLLOW), a socket or a device without a driver. */
const NO_FILE = ['ELOOP', 'EMLINK', 'ENXIO', 'ENODEV', 'EOPNOTSUPP'];

let temporaries = 0;

/** True if an operation of the file system failed with one of the codes. */
export function failedWith(error: unknown, ...codes: string[]): boolean {
  return codes.includes((error as NodeJS.ErrnoException).code ?? '');
}

/**
 * Creates the directory with mode 0700, or checks it and its `folders`. Throws {@link SessionConfigurationError} if
 * another user can write to them. Each must be a directory and no link, belong to this user, not be writable by others,
 * and not contain links in the place of folders. See {@link checkParents} for the path that leads to the directory.
 */
export function checkDirectory(directory: string, folders: readonly string[]): void {
  try {
    checkPlace(directory);
    if (mkdirSync(directory, { recursive: true, mode: 0o700 })) chmodSync(directory, 0o700);
    // Checked again: in a directory like /tmp, another user may have created a part of the path before us.
    checkPlace(directory);
    for (const folder of folders) checkFolder(join(directory, folder));
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    if (error instanceof SessionConfigurationError) throw error;
    refuseDirectory(`it cannot be used: ${(error as Error).message}`);
  }
}

function checkPlace(directory: string): void {
  checkFolder(directory);
  checkParents(directory);
}

function checkFolder(path: string): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return;
  const refuse = (problem: string): never => refuseDirectory(`${path} ${problem}`);
  if (stat.isSymbolicLink()) refuse('is a symbolic link; name the directory it leads to');
  if (!stat.isDirectory()) refuse('is no directory; move it away, or name another');
  // Windows has no owners and modes that Node could read here.
  const user = process.getuid?.();
  if (user !== undefined) {
    if (stat.uid !== user) refuse(`belongs to user ${stat.uid}, and this process to user ${user}; chown it`);
    if (stat.mode & 0o022) refuse(`can be written to by others; run: chmod 700 '${path}'`);
  }
  const link = readdirSync(path, { withFileTypes: true }).find(
    (entry) => entry.isSymbolicLink() && /^[0-9a-f]{2}$/.test(entry.name),
  );
  if (link) refuse(`holds a symbolic link, ${link.name}, where a folder belongs; remove it`);
}

/** Creates a folder and its parents with mode 0700, whatever the umask is. */
export async function makeFolder(path: string, durable: boolean): Promise<void> {
  try {
    await mkdir(path, 0o700);
    await chmod(path, 0o700);
    if (durable) await syncFolder(dirname(path));
  } catch (error) {
    if (failedWith(error, 'EEXIST')) return;
    if (!failedWith(error, 'ENOENT')) throw error;
    await makeFolder(dirname(path), durable);
    await makeFolder(path, durable);
  }
}

/** Lists a folder. A folder that does not exist is empty. */
export async function listFolder(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (failedWith(error, 'ENOENT')) return [];
    throw error;
  }
}

/**
 * Reads a regular file as text. Returns undefined if there is no file, and an empty text for anything else: a link, a
 * FIFO, a folder, a device, or a file above `MAX_BYTES`. It follows no link and waits for no FIFO.
 */
export async function readGuarded(path: string): Promise<string | undefined> {
  try {
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
    const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      const stat = await file.stat();
      if (!stat.isFile() || stat.size > MAX_BYTES) return '';
      const bytes = Buffer.allocUnsafe(stat.size);
      let length = 0;
      for (let read = -1; read !== 0 && length < bytes.length; length += read) {
        ({ bytesRead: read } = await file.read(bytes, length, bytes.length - length, length));
      }
      return bytes.toString('utf8', 0, length);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (failedWith(error, 'ENOENT')) return undefined;
    if (failedWith(error, ...NO_FILE)) return '';
    throw error;
  }
}

/**
 * Replaces a file as a whole, or rejects and leaves the old one as it is. `durable`: when the promise has resolved, the
 * new file survives a loss of power.
 */
export async function replaceFile(path: string, text: Buffer, durable: boolean): Promise<void> {
  const temporary = await writeTemporary(path, text, durable);
  try {
    await rename(temporary, path);
  } catch (error) {
    await discard(temporary);
    throw error;
  }
  if (durable) await syncFolder(dirname(path));
}

/** Rejects if a file could not be written at `path`. */
export async function tryToWrite(path: string): Promise<void> {
  await unlink(await writeTemporary(path, Buffer.from('ping'), false));
}

/** Removes a file or a link at `path`, never the target of a link. A folder stays. */
export async function removeEntry(path: string, durable: boolean): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (failedWith(error, 'ENOENT')) return;
    // For a folder, Linux fails with EISDIR, others with EPERM, which may have another reason.
    if ((await lstat(path)).isDirectory()) return;
    throw error;
  }
  if (durable) await syncFolder(dirname(path));
}

/** Makes the list of a folder's entries survive a loss of power. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Writes a file next to `path`, so that a rename can replace `path`. Its name has the process tag of its writer. */
async function writeTemporary(path: string, bytes: Buffer, durable: boolean): Promise<string> {
  const temporary = `${path}.${processTag()}.${temporaries++}.tmp`;
  const file = await open(temporary, 'wx', 0o600);
  try {
    try {
      await file.writeFile(bytes);
      if (durable) await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    await discard(temporary);
    throw error;
  }
  return temporary;
}

/** Removes a temporary file. A failure is ignored: the sweeper removes the file later. */
async function discard(temporary: string): Promise<void> {
  await rm(temporary, { force: true }).catch(() => undefined);
}
