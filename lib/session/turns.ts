/** Runs asynchronous steps one after the other; the first at once. */
export class Turns {
  #last: Promise<unknown> | undefined;

  /** True while a step is running or waiting. */
  get taken(): boolean {
    return this.#last !== undefined;
  }

  /** Settles when the steps that are running or waiting now have ended, however they do. */
  get done(): Promise<unknown> | undefined {
    return this.#last;
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
