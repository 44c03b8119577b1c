import { createHash } from 'node:crypto';
import { readlink, symlink, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { SerialQueues } from '../../util/serial-queue.js';
import { failedWith, makeFolder } from './file-access.js';
import { hasDied, processTag } from './process-tag.js';

// A lock is a symbolic link to nothing whose text names its holder: made, with its text, by one system call that
// one process wins, so there is no lock that does not say whose it is.
//
// Breaking the lock of a dead holder H: two may find H dead at once, and the slower one must not remove the lock
// the faster one has taken since. So whoever wants to remove what H left takes another lock first, "<lock>.<hash of
// H>", and looks again. While it holds that, what H left can change in no way: H is dead, and everybody else waits.
// If its holder dies too, that lock is broken by the same rule.

/** How long to wait for a lock, in milliseconds. */
const WAIT = 5000;

/** Names of the locks at `<lock>`, and of those under which they are broken, after the name of the lock itself. */
export const LOCK_SUFFIX = /^\.lock(?:\.[\w-]{16})?$/;

const queues = new SerialQueues();

/**
 * Runs the step while no other process on this host, and nothing else in this one, runs one under the same lock.
 * Rejects if the lock is not free within five seconds.
 */
export function withFileLock<T>(lock: string, step: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + WAIT;
  return queues.run(lock, async () => {
    await take(lock, lock, deadline);
    try {
      return await step();
    } finally {
      await release(lock);
    }
  });
}

/** Removes the lock file at `path`, if its holder has died; `lock` is the lock itself. */
export async function breakIfDead(path: string, lock: string): Promise<void> {
  const holder = await holderOf(path);
  if (holder !== undefined && (await hasDied(holder, path))) {
    await breakLock(path, lock, holder, performance.now() + WAIT);
  }
}

async function take(path: string, lock: string, deadline: number): Promise<void> {
  while (!(await place(path))) {
    if (performance.now() > deadline) throw new Error(`${path} was not free within ${WAIT} ms`);
    const holder = await holderOf(path);
    if (holder === undefined) continue;
    if (await hasDied(holder, path)) await breakLock(path, lock, holder, deadline);
    else await pause(1 + Math.random() * 14);
  }
}

async function breakLock(path: string, lock: string, holder: string, deadline: number): Promise<void> {
  const suffix = createHash('sha256').update(holder).digest('base64url').slice(0, 16);
  const permission = `${lock}.${suffix}`;
  await take(permission, lock, deadline);
  try {
    if ((await holderOf(path)) === holder) await unlink(path);
  } finally {
    await release(permission);
  }
}

/** Only our own: while this process stood still, one on another host may have taken it for dead. */
async function release(path: string): Promise<void> {
  if ((await holderOf(path)) === processTag()) await unlink(path);
}

async function place(path: string): Promise<boolean> {
  try {
    await symlink(processTag(), path);
    return true;
  } catch (error) {
    // Once for each folder, so it may as well be for good.
    if (failedWith(error, 'ENOENT')) await makeFolder(dirname(path), true);
    else if (!failedWith(error, 'EEXIST')) throw error;
    return false;
  }
}

/** Who holds the lock; empty for what is no lock, and undefined if there is none. */
async function holderOf(path: string): Promise<string | undefined> {
  try {
    return await readlink(path);
  } catch (error) {
    if (failedWith(error, 'ENOENT')) return undefined;
    if (failedWith(error, 'EINVAL')) return '';
    throw error;
  }
}
