import { spawnSync } from 'node:child_process';

export default function requireRedis() {
  const found = ['redis-server', 'redis-cli'].every((name) => spawnSync(name, ['--version']).status === 0);
  if (!found) {
    console.error(
      '\nThese tests start Redis servers: install redis-server and redis-cli (Debian: apt-get install redis-server).',
    );
    process.exit(1);
  }
}
