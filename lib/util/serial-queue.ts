/** Runs asynchronous steps one after the other. The first runs at once. */
export class SerialQueue {
  readonly #maxWait: number;
  #last: Promise<void> | undefined;

  /** @param maxWait how long a step waits for the one before it, in milliseconds. One that hangs does not hold up all. */
  constructor(maxWait = Infinity) {
    this.#maxWait = maxWait;
  }

  /** True while a step is running or waiting. */
  get isBusy(): boolean {
    return this.#last !== undefined;
  }

  /** Settles when the steps that are running or waiting now have ended, however they do. Undefined if there is none. */
  get idle(): Promise<void> | undefined {
    return this.#last;
  }

  /** Runs the step when those before it are done, however they ended. */
  run<T>(step: () => Promise<T>): Promise<T> {
    const before = this.#last;
    // Set before the step runs: it may come here again.
    let end = (): void => {};
    const last = new Promise<void>((resolve) => (end = resolve));
    this.#last = last;
    const turn = before ? this.#atMost(before).then(step) : step();
    const done = (): void => {
      if (this.#last === last) this.#last = undefined;
      end();
    };
    turn.then(done, done);
    return turn;
  }

  #atMost(before: Promise<void>): Promise<void> {
    if (this.#maxWait === Infinity) return before;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#maxWait);
      void before.then(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

/** A {@link SerialQueue} for each key: the steps of different keys do not wait for each other. */
export class SerialQueues {
  readonly #maxWait: number;
  readonly #queues = new Map<string, SerialQueue>();

  /** @param maxWait see {@link SerialQueue} */
  constructor(maxWait = Infinity) {
    this.#maxWait = maxWait;
  }

  /** Runs the step when those before it under the same key are done, however they ended. */
  run<T>(key: string, step: () => Promise<T>): Promise<T> {
    const queue = this.#queues.get(key) ?? new SerialQueue(this.#maxWait);
    this.#queues.set(key, queue);
    const turn = queue.run(step);
    const done = (): void => {
      if (!queue.isBusy) this.#queues.delete(key);
    };
    turn.then(done, done);
    return turn;
  }
}
