import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { lstat, readFile } from 'node:fs/promises';
import { hostname } from 'node:os';

/** How old the trace of a process must be, in milliseconds, before it counts as dead where nobody can look. */
const DEAD_AFTER = 10_000;

let ours: string | undefined;

/**
 * This process, as text that tells others on the host whether it still runs: `host.pid.start.instance`.
 *
 * It stays below 60 bytes, because ext4 then keeps it in the inode of a symbolic link: a lock needs no room, and a
 * session can be destroyed on a full disk.
 */
export function processTag(): string {
  ours ??= [
    digest(scopeOfPids()),
    process.pid,
    parseStat(attempt(() => readFileSync('/proc/self/stat', 'latin1')))?.start ?? '',
    // Threads and copies of this module are one process, and yet several holders.
    randomBytes(9).toString('base64url'),
  ].join('.');
  return ours;
}

/**
 * Whether who left `trace` behind, which names `holder`, can do nothing any more. Certain on one host under Linux;
 * elsewhere, of other hosts and containers, and of what is no holder's text, a trace of ten seconds is a dead one's.
 */
export async function hasDied(holder: string, trace: string): Promise<boolean> {
  if (holder === processTag()) return false;
  const [host, pid, start] = holder.split('.');
  const [ourHost, ourPid, ourStart] = processTag().split('.');
  const anotherThread = pid === ourPid && start === ourStart;
  if (host === ourHost && /^[1-9]\d*$/.test(pid) && !anotherThread) {
    if (!exists(Number(pid))) return true;
    const stat = parseStat(await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => undefined));
    if (stat && start) return stat.start !== start || stat.ended;
  }
  const age = await lstat(trace).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => 0,
  );
  return age > DEAD_AFTER;
}

/** Within which a pid means something: this boot of this host, and the container. */
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

/** What proc_pid_stat(5) says: state is field 3, num_threads 20, starttime 22; field 2 may hold anything, `)` too. */
function parseStat(stat: string | undefined): { start: string; ended: boolean } | undefined {
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (!fields?.[19]) return undefined;
  // A zombie that still has threads may have a rename under way.
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
