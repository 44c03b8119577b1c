/** Runs the asynchronous steps of one key one after the other; those of different keys do not wait for each other. */
export class KeyedTurns {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Runs the step when those before it are done, however they ended. */
  take<T>(key: string, step: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key);
    const turn = before ? before.then(step, step) : step();
    const done = (): void => {
      if (this.#last.get(key) === turn) this.#last.delete(key);
    };
    this.#last.set(key, turn);
    turn.then(done, done);
    return turn;
  }
}
