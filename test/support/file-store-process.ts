import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const CHILD = join(process.cwd(), 'test/support/file-store-child.mjs');

interface Answer {
  readonly call?: number;
  readonly result?: unknown;
  readonly error?: { readonly message: string; readonly code?: string };
  readonly progress?: number;
}

/** A FileStore in a process of its own, which loads the built library. */
export class StoreProcess {
  /** Called with each number of `commitPairs`. */
  onProgress: (number: number) => void = () => undefined;
  readonly #waiting = new Map<number, { resolve(result: unknown): void; reject(error: Error): void }>();
  #calls = 0;

  private constructor(private readonly child: ChildProcess) {}

  /** @param shell what the shell does first, such as mounting a file system or setting a limit. */
  static async start(
    directory: string,
    { durable = false, shell = '', wrapper = [] as string[] } = {},
  ): Promise<StoreProcess> {
    const command = [...wrapper, 'sh', '-ec', `${shell}\nexec "$@"`, 'sh'];
    const child = spawn(command[0], [...command.slice(1), process.execPath, CHILD, directory, `${durable}`], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      serialization: 'advanced',
    });
    const [first] = await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) => [`it ended with ${code}`]),
    ]);
    if (first !== 'ready') throw new Error(`The process did not start: ${first}`);
    const started = new StoreProcess(child);
    child.on('message', (answer: Answer) => started.#take(answer));
    return started;
  }

  get pid(): number {
    return this.child.pid as number;
  }

  /** Calls a method of the store, or a job of the child. */
  call<T = unknown>(method: string, ...args: unknown[]): Promise<T> {
    const call = this.#calls++;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(call, { resolve: resolve as (result: unknown) => void, reject });
      this.child.send({ call, method, args });
    });
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
  }

  /** Hangs up; how the process ended, having nothing more to do. */
  async end(): Promise<number | null> {
    const ended = once(this.child, 'exit');
    this.child.disconnect();
    return (await ended)[0] as number | null;
  }

  #take({ call, result, error, progress }: Answer): void {
    if (progress !== undefined) this.onProgress(progress);
    const waiting = this.#waiting.get(call ?? -1);
    if (!waiting) return;
    this.#waiting.delete(call ?? -1);
    if (error) waiting.reject(Object.assign(new Error(error.message), { code: error.code }));
    else waiting.resolve(result);
  }
}
