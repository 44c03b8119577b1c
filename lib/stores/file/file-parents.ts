import { lstatSync, readlinkSync } from 'node:fs';
import { isAbsolute, join, sep } from 'node:path';
import { SessionConfigurationError } from '../../errors.js';

/** As many links as Linux follows in one path (path_resolution(7)). */
const MOST_LINKS = 40;

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/** Throws {@link SessionConfigurationError}. */
export function refuseDirectory(problem: string): never {
  throw new SessionConfigurationError('FileStore directory', problem);
}

/**
 * Refuses a directory, given by its absolute path, if somebody else could put another in its place. The rule is that of
 * sshd's StrictModes: what leads there, from the root on, belongs to root or to this user, and others can write to no
 * directory of it. A directory with the sticky bit, such as `/tmp`, is fine: an entry in it can be replaced by its
 * owner alone. Links on the way are checked as well, and what leads to where they lead.
 *
 * Ends at what does not exist yet.
 */
export function checkParents(directory: string): void {
  // Windows has neither owners nor modes that could be asked for here.
  const user = process.getuid?.();
  if (user === undefined) return;
  const names = directory.split(sep);
  let parent: string = sep;
  let links = 0;
  // Each turn takes a name away. Only links add some, and there is a limit to how many links are followed.
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
