/** Runs the asynchronous steps of one key one after the other; those of different keys do not wait for each other. */
export class KeyedTurns {
  readonly #patience: number;
  readonly #last = new Map<string, Promise<unknown>>();

  /** @param patience how long a step waits for the one before it, in milliseconds: one that hangs must not hold up all. */
  constructor(patience = Infinity) {
    this.#patience = patience;
  }

  /** Runs the step when those before it are done, however they ended. */
  take<T>(key: string, step: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key);
    const turn = before ? this.#ended(before).then(step) : step();
    const done = (): void => {
      if (this.#last.get(key) === turn) this.#last.delete(key);
    };
    this.#last.set(key, turn);
    turn.then(done, done);
    return turn;
  }

  #ended(step: Promise<unknown>): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#patience === Infinity ? undefined : setTimeout(resolve, this.#patience);
      const done = (): void => {
        clearTimeout(timer);
        resolve();
      };
      step.then(done, done);
    });
  }
}
