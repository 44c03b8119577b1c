import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const script = fileURLToPath(new URL('load.lua', import.meta.url));

/** Keep-alive connections, each with the next request as soon as the last is answered. */
export const CONNECTIONS = 16;

/** Whether a program is installed. */
export const installed = (program) =>
  run('sh', ['-c', 'command -v "$0"', program]).then(
    () => true,
    () => false,
  );

/** A command that keeps to one core; without a core, it runs where it likes. */
export const onCore = (core, command) =>
  core === undefined ? command : ['taskset', '-c', String(core), ...command];

/**
 * Sends requests, over and over, for whole seconds: how many were answered, in how many seconds, and the latencies p50
 * and p99 in microseconds. An answer that is an error, or another than is told to be awaited, is an error here.
 *
 * @param requests `{ path, cookie?, answer? }`, at least as many as there are connections
 * @param follow whether the cookie of an answer replaces that of its request
 */
export async function load(url, requests, { seconds, follow, core }) {
  const folder = await mkdtemp(join(tmpdir(), 'nest-session-bench-'));
  try {
    const file = join(folder, 'requests');
    const lines = requests.map(({ path, cookie = '', answer = '' }) => [path, cookie, answer].join('\t'));
    await writeFile(file, lines.join('\n'));
    const options = [`-t${CONNECTIONS}`, `-c${CONNECTIONS}`, `-d${seconds}`, '-s', script];
    const command = ['wrk', ...options, url, '--', file, follow ? 'yes' : 'no'];
    const [program, ...args] = onCore(core, command);
    const env = { ...process.env, WRK_THREADS: String(CONNECTIONS) };
    const { stdout } = await run(program, args, { env });
    const { failed, ...result } = JSON.parse(stdout.trim().split('\n').at(-1));
    if (failed > 0) {
      throw new Error(`${failed} of ${result.requests} requests such as ${requests[0].path} failed.`);
    }
    return result;
  } finally {
    await rm(folder, { recursive: true });
  }
}
