/** Runs asynchronous steps one after the other; the first at once. */
export class Turns {
  #last: Promise<unknown> | undefined;

  /** Whether a step is running or waiting. */
  get taken(): boolean {
    return this.#last !== undefined;
  }

  /** Runs the step when those before it are done, however they ended. */
  take(step: () => Promise<void>): Promise<void> {
    const turn = this.#last ? this.#last.then(step) : step();
    const done = () => {
      if (this.#last === last) this.#last = undefined;
    };
    const last: Promise<unknown> = turn.then(done, done);
    this.#last = last;
    return turn;
  }
}
