import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { onCore } from './load.mjs';

const script = fileURLToPath(new URL('server.mjs', import.meta.url));

/** Starts a variant's server: its address, and its CPU time so far in microseconds. */
export async function startServer(variant, core) {
  const [program, ...args] = onCore(core, [process.execPath, script, JSON.stringify(variant)]);
  const child = spawn(program, args, {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, NODE_ENV: 'production' },
  });
  const ended = once(child, 'exit');
  const answer = async () => {
    const [message] = await Promise.race([once(child, 'message'), ended]);
    if (!(message instanceof Object)) throw new Error(`The server of ${variant.name} ended.`);
    return message;
  };
  const { port } = await answer();
  return {
    url: `http://127.0.0.1:${port}`,
    async cpu() {
      child.send('cpu');
      const { cpu } = await answer();
      return cpu.user + cpu.system;
    },
    async stop() {
      child.disconnect();
      await Promise.race([ended, wait(5000, undefined, { ref: false })]);
      if (child.exitCode === null) child.kill('SIGKILL');
    },
  };
}

/** Starts a Redis of our own that keeps nothing on disk. */
export async function startRedis(core) {
  const folder = await mkdtemp(join(tmpdir(), 'nest-session-bench-redis-'));
  const port = await freePort();
  const [program, ...args] = onCore(core, [
    ...['redis-server', '--port', String(port), '--bind', '127.0.0.1', '--dir', folder],
    ...['--save', '', '--appendonly', 'no'],
  ]);
  const child = spawn(program, args, { stdio: 'ignore' });
  const ended = once(child, 'exit');
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error(`redis-server ended with ${child.exitCode}.`);
    await wait(20);
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    async stop() {
      child.kill();
      await ended;
      await rm(folder, { recursive: true });
    },
  };
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.end('PING\r\n'));
    socket.on('data', (data) => resolve(String(data).startsWith('+PONG')));
    socket.on('error', () => resolve(false));
    socket.on('close', () => resolve(false));
  });
}
