import { createHash } from 'node:crypto';
import { readlink, symlink, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { SerialQueues } from '../../util/serial-queue.js';
import { failedWith, makeFolder } from './file-access.js';
import { hasDied, processTag } from './process-tag.js';

// A lock is a symbolic link without a target. Its text is the process tag of its holder. One system call makes the link
// with its text, and succeeds for one process only, so every lock names its holder.
//
// Breaking the lock of a dead holder H: two processes may find H dead at once, and the slower one must not remove the
// lock that the faster one has taken since. So a process first takes another lock, "<lock>.<hash of H>", and then reads
// the lock of H again. While it holds the other lock, the lock of H cannot change: H is dead, and all others wait. If
// the holder of the other lock dies too, that lock is broken in the same way.

/** The longest wait for a lock, in milliseconds. */
const WAIT = 5000;

/** The suffix of a lock's file name, or of the lock that is taken to break it. */
export const LOCK_SUFFIX = /^\.lock(?:\.[\w-]{16})?$/;

const queues = new SerialQueues();

/**
 * Runs a step under a lock: no two steps under one lock run at the same time, in this process or others of the host.
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

/** Removes the file at `path` if its holder has died. `path` is `lock` itself, or the lock taken to break it. */
export async function breakIfDead(path: string, lock: string): Promise<void> {
  const holder = await holderOf(path);
  if (holder !== undefined && (await hasDied(holder, path))) {
    await breakLock(path, lock, holder, performance.now() + WAIT);
  }
}

async function take(path: string, lock: string, deadline: number): Promise<void> {
  // Ends when the lock is free, or at the deadline.
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

/** Removes a lock if this process still holds it: while it was suspended, another host may have broken the lock. */
async function release(path: string): Promise<void> {
  if ((await holderOf(path)) === processTag()) await unlink(path);
}

async function place(path: string): Promise<boolean> {
  try {
    await symlink(processTag(), path);
    return true;
  } catch (error) {
    // Durable, because it happens only once per folder.
    if (failedWith(error, 'ENOENT')) await makeFolder(dirname(path), true);
    else if (!failedWith(error, 'EEXIST')) throw error;
    return false;
  }
}

/** The tag of the lock's holder; empty for a file that is no lock, undefined if there is no file. */
async function holderOf(path: string): Promise<string | undefined> {
  try {
    return await readlink(path);
  } catch (error) {
    if (failedWith(error, 'ENOENT')) return undefined;
    if (failedWith(error, 'EINVAL')) return '';
    throw error;
  }
}
