/**
 * Runs a command with a SoliDB test server beside it, which the command finds in its SESSION_* variables:
 *
 *     node test/support/with-solidb.mjs [--profile v0.10|v1.2|v2.1] npm start
 *
 * Without a command the server runs until it is interrupted. It keeps everything in memory.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { profiles } from './solidb-profiles.mjs';
import { SolidbServer } from './solidb-server.mjs';

const own = process.argv.slice(2);
const first = own.findIndex((word, index) => !word.startsWith('--') && own[index - 1] !== '--profile');
const [flags, command] = first < 0 ? [own, []] : [own.slice(0, first), own.slice(first)];
const { profile } = parseArgs({
  args: flags,
  options: { profile: { type: 'string', default: 'v2.1' } },
}).values;
if (!Object.hasOwn(profiles, profile)) {
  console.error(`There is no profile ${profile}, only ${Object.keys(profiles).join(', ')}.`);
  process.exit(1);
}

const apiKey = `sk_${'0'.repeat(64)}`;
const server = await new SolidbServer(profile, { apiKeys: [apiKey], requestsPerMinute: 0 }).start();
const environment = {
  SESSION_DRIVER: 'solidb',
  SESSION_SOLIDB_URL: server.url,
  SESSION_SOLIDB_DATABASE: 'app',
  SESSION_SOLIDB_API_KEY: apiKey,
};
console.log(`SoliDB ${profile} for tests at ${server.url}`);

if (command.length === 0) {
  for (const [name, value] of Object.entries(environment)) console.log(`export ${name}=${value}`);
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
} else {
  const child = spawn(command[0], command.slice(1), {
    stdio: 'inherit',
    env: { ...process.env, ...environment },
  });
  // An interrupt reaches the whole foreground group; what is sent to this process alone is handed on.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  const [code] = await once(child, 'exit');
  process.exitCode = code ?? 1;
}
await server.stop();
