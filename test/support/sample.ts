import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { Browser } from './app.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

export const alice = { username: 'alice', password: 'wonderland' };

export const CHROME =
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36';

/** The built sample as `npm start` runs it, with no environment set but the port and what the test asks for. */
export class Sample {
  output = '';

  private constructor(readonly process: ChildProcessByStdio<null, Readable, Readable>) {
    for (const stream of [process.stdout, process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    }
  }

  static start(port: number, args: string[], variables: Record<string, string> = {}): Sample {
    const environment = Object.entries(process.env).filter(([name]) => !/^(SESSION|NODE)_|^PORT$/.test(name));
    return new Sample(
      spawn(process.execPath, ['sample/login/dist/main.js', ...args], {
        cwd: root,
        env: { ...Object.fromEntries(environment), PORT: String(port), ...variables },
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    );
  }

  /** The address it prints once it listens. */
  async address(): Promise<string> {
    for (;;) {
      const [address] = /http:\/\/localhost:\d+/.exec(this.output) ?? [];
      if (address) return address;
      if (this.ended) throw new Error(`The sample ended: ${this.output}`);
      const { stdout, stderr } = this.process;
      await Promise.race([once(stdout, 'data'), once(stderr, 'data'), once(this.process, 'exit')]);
    }
  }

  /** How it ends when asked to. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<unknown[]> {
    if (this.ended) return [this.process.exitCode, this.process.signalCode];
    const exit = once(this.process, 'exit');
    this.process.kill(signal);
    return exit;
  }

  get ended(): boolean {
    return this.process.exitCode !== null || this.process.signalCode !== null;
  }
}

/** The token in a page's forms, the same in all of them. */
export async function tokenOn(browser: Browser, path: string): Promise<string> {
  const tokens = [...(await browser.get(path)).text.matchAll(/name="_csrf" value="([^"]+)"/g)];
  expect(new Set(tokens.map(([, token]) => token)).size).toBe(1);
  return tokens[0][1];
}

/** Posts a form with the token of the page it stands on. */
export async function submitted(browser: Browser, path: string, form: object = {}, userAgent = CHROME) {
  const _csrf = await tokenOn(browser, path === '/login' ? '/login' : '/');
  return browser
    .post(path)
    .set('User-Agent', userAgent)
    .type('form')
    .send({ _csrf, ...form });
}

/** A browser in which alice is signed in. */
export async function signedIn(url: string, userAgent?: string): Promise<Browser> {
  const browser = new Browser(url);
  expect((await submitted(browser, '/login', alice, userAgent)).status).toBe(303);
  return browser;
}
