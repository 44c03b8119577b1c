/** The time that one operation has for its requests, logins and waits together. */
export class Deadline {
  readonly signal: AbortSignal;
  readonly #end: number;

  constructor(readonly milliseconds: number) {
    this.signal = AbortSignal.timeout(milliseconds);
    this.#end = performance.now() + milliseconds;
  }

  get left(): number {
    return this.#end - performance.now();
  }

  /** Waits for work that others wait for as well, no longer than there is time. */
  wait<T>(shared: Promise<T>): Promise<T> {
    const { signal } = this;
    return new Promise<T>((resolve, reject) => {
      const abort = (): void => reject(new Error(`SoliDB: no answer within ${this.milliseconds} ms.`));
      if (signal.aborted) abort();
      signal.addEventListener('abort', abort, { once: true });
      // Also where nobody has time to wait: a failure that nobody hears of ends the process.
      shared.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
    });
  }
}
