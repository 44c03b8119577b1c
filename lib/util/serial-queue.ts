/** Runs asynchronous steps one after the other. The first step starts at once. */
export class SerialQueue {
  readonly #maxWait: number;
  #last: Promise<void> | undefined;

  /** @param maxWait milliseconds that a step waits for the step before it. One that hangs does not block all. */
  constructor(maxWait = Infinity) {
    this.#maxWait = maxWait;
  }

  /** True while a step is running or waiting. */
  get isBusy(): boolean {
    return this.#last !== undefined;
  }

  /** Resolves when the steps that are running or waiting now have ended or failed. Undefined if there are none. */
  get idle(): Promise<void> | undefined {
    return this.#last;
  }

  /** Runs the step when the steps before it have ended or failed. */
  run<T>(step: () => Promise<T>): Promise<T> {
    const before = this.#last;
    // Set before the step starts, because the step may call run() itself.
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

  /** Runs the step when the steps before it under the same key have ended or failed. */
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
