/** The deadline of one operation, for all its requests, logins and waits together. */
export class Deadline {
  readonly signal: AbortSignal;
  readonly #end: number;

  constructor(readonly milliseconds: number) {
    this.signal = AbortSignal.timeout(milliseconds);
    this.#end = performance.now() + milliseconds;
  }

  /** Milliseconds until the deadline. */
  get left(): number {
    return this.#end - performance.now();
  }

  /** Waits for a promise that other operations may wait for too. Rejects at the deadline. */
  wait<T>(shared: Promise<T>): Promise<T> {
    const { signal } = this;
    return new Promise<T>((resolve, reject) => {
      const abort = (): void => reject(new Error(`SoliDB: no answer within ${this.milliseconds} ms.`));
      if (signal.aborted) abort();
      signal.addEventListener('abort', abort, { once: true });
      // Handled even after the deadline: an unhandled rejection would end the process.
      shared.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
    });
  }
}
