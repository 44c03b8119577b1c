import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const WHAT_TO_INSTALL =
  'The Redis tests (npm run test:redis) need redis-server and redis-cli: apt-get install redis-server (Debian).';

export function isMissing() {
  return !['redis-server', 'redis-cli'].every((name) => spawnSync(name, ['--version']).status === 0);
}

// After `npm test`, which goes without them.
if (process.argv[1] === fileURLToPath(import.meta.url) && isMissing()) console.log(WHAT_TO_INSTALL);
