import { lstatSync, readlinkSync } from 'node:fs';
import { isAbsolute, join, sep } from 'node:path';
import { SessionConfigurationError } from '../../errors.js';

/** The number of links that Linux follows in one path (path_resolution(7)). */
const MOST_LINKS = 40;

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/** Throws {@link SessionConfigurationError} for the option `directory`. */
export function refuseDirectory(problem: string): never {
  throw new SessionConfigurationError('FileStore directory', problem);
}

/**
 * Throws {@link SessionConfigurationError} if another user could replace the directory, given by its absolute path. The
 * rule is that of sshd's StrictModes: each of its parents belongs to root or to this user, and is not writable by
 * others. A parent with the sticky bit, such as `/tmp`, is accepted: only its owner can replace an entry. Links in the
 * path are checked too, and the parents of their targets.
 *
 * The check ends at the first part of the path that does not exist.
 */
export function checkParents(directory: string): void {
  // Windows has no owners and modes that Node could read here.
  const user = process.getuid?.();
  if (user === undefined) return;
  const names = directory.split(sep);
  let parent: string = sep;
  let links = 0;
  // Ends: each pass removes a name. Only links add names, and the number of links is limited.
  while (names.length > 0) {
    const path = join(parent, names.shift() as string);
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (!stat) return;
    if (stat.uid !== 0 && stat.uid !== user) {
      refuseDirectory(
        `${path}, which leads to it, belongs to user ${stat.uid}, who could put another directory in its place; ` +
          `chown it to root or to the user of this process, ${user}`,
      );
    }
    if (stat.isSymbolicLink()) {
      if (++links > MOST_LINKS) refuseDirectory(`${path}, which leads to it, is one symbolic link too many`);
      const target = readlinkSync(path);
      names.unshift(...target.split(sep));
      if (isAbsolute(target)) parent = sep;
      continue;
    }
    if (stat.isDirectory() && stat.mode & WRITABLE_BY_OTHERS && !(stat.mode & STICKY)) {
      refuseDirectory(
        `others can write to ${path}, which leads to it, and so put another directory in its place; ` +
          `run: chmod go-w '${path}', or, if others have to write there: chmod +t '${path}'`,
      );
    }
    parent = path;
  }
}
