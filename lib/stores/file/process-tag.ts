import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { lstat, readFile } from 'node:fs/promises';
import { hostname } from 'node:os';

/** The age in milliseconds at which a file counts as left by a dead process, if the process cannot be checked. */
const DEAD_AFTER = 10_000;

let cached: string | undefined;

/**
 * The tag of this process, with which other processes of the host can check that it runs: `host.pid.start.instance`.
 *
 * It is shorter than 60 bytes, because ext4 then keeps it in the inode of a symbolic link. So a lock needs no disk
 * space, and a session can be destroyed on a full disk.
 */
export function processTag(): string {
  cached ??= [
    digest(scopeOfPids()),
    process.pid,
    parseStat(attempt(() => readFileSync('/proc/self/stat', 'latin1')))?.start ?? '',
    // Threads, and copies of this module, share a process but need tags of their own.
    randomBytes(9).toString('base64url'),
  ].join('.');
  return cached;
}

/**
 * True if the process with this tag has ended. `file` is a lock or a temporary file of that process. The answer is
 * certain under Linux, on the same host and in the same container. Otherwise, and for a text that is no tag, the
 * process counts as dead when the file is ten seconds old.
 */
export async function hasDied(tag: string, file: string): Promise<boolean> {
  if (tag === processTag()) return false;
  const [host, pid, start] = tag.split('.');
  const [ourHost, ourPid, ourStart] = processTag().split('.');
  const anotherThread = pid === ourPid && start === ourStart;
  if (host === ourHost && /^[1-9]\d*$/.test(pid) && !anotherThread) {
    if (!exists(Number(pid))) return true;
    const stat = parseStat(await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => undefined));
    if (stat && start) return stat.start !== start || stat.ended;
  }
  const age = await lstat(file).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => 0,
  );
  return age > DEAD_AFTER;
}

/** The scope in which a pid is unique: this boot of this host, and the container. */
function scopeOfPids(): string {
  return (
    attempt(
      () =>
        readFileSync('/proc/sys/kernel/random/boot_id', 'latin1') +
        readlinkSync('/proc/self/ns/pid', 'latin1'),
    ) ?? hostname()
  );
}

function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** Parses proc_pid_stat(5): state is field 3, num_threads 20, starttime 22. Field 2 may contain anything, even `)`. */
function parseStat(stat: string | undefined): { start: string; ended: boolean } | undefined {
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (!fields?.[19]) return undefined;
  // A zombie that still has threads may be in the middle of a rename.
  return { start: fields[19], ended: /^[ZX]$/.test(fields[0]) && Number(fields[17]) <= 1 };
}

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 12);
}
