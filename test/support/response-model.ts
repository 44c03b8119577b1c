import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Adapter } from './app.js';

interface Scenario {
  readonly kind: string;
  readonly start: string;
  readonly order: readonly string[];
}

interface Message {
  readonly began?: Scenario;
  readonly scenario?: Scenario;
  readonly found?: readonly string[];
  readonly count?: number;
}

interface Settings {
  readonly adapter: Adapter;
  readonly fastPath: boolean;
  /** All orders of so many steps. */
  readonly depth?: number;
  /** Or so many, chosen by chance. */
  readonly sample?: { readonly count: number; readonly depth: number; readonly seed: number };
  /** Or these. */
  readonly only?: readonly Scenario[];
}

/** A scenario takes a millisecond. One that takes so long has stopped the server. */
const STOPPED = 60_000;

/**
 * Runs orders of a response's steps in a process of its own, which a promise chain that never reaches the event loop can
 * stop without stopping the tests: how many there were, and what was wrong.
 */
export async function runModel(settings: Settings): Promise<{ count: number; problems: string[] }> {
  const child = fork(
    fileURLToPath(new URL('../model/response-model.mjs', import.meta.url)),
    [JSON.stringify(settings)],
    { execArgv: ['--max-old-space-size=512'] },
  );
  const problems: string[] = [];
  let count = 0;
  let current = '';
  const stopped = (): void => {
    problems.push(`the server stopped at ${current}`);
    child.kill('SIGKILL');
  };
  let watchdog = setTimeout(stopped, STOPPED);
  child.on('message', (message: Message) => {
    clearTimeout(watchdog);
    watchdog = setTimeout(stopped, STOPPED);
    if (message.began) current = JSON.stringify(message.began);
    if (message.found) problems.push(`${JSON.stringify(message.scenario)}: ${message.found.join('; ')}`);
    count = message.count ?? count;
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  clearTimeout(watchdog);
  if (code !== 0) problems.push(`the process ended with ${code} at ${current}`);
  return { count, problems };
}
