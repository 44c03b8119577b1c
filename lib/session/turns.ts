/** Runs asynchronous steps one after the other; the first at once. */
export class Turns {
  #last: Promise<void> | undefined;

  /** True while a step is running or waiting. */
  get taken(): boolean {
    return this.#last !== undefined;
  }

  /** Settles when the steps that are running or waiting now have ended, however they do. */
  get done(): Promise<void> | undefined {
    return this.#last;
  }

  /** Runs the step when those before it are done, however they ended. */
  take(step: () => Promise<void>): Promise<void> {
    const before = this.#last;
    // Set before the step runs: it may come here again.
    let end = (): void => {};
    const last = new Promise<void>((resolve) => (end = resolve));
    this.#last = last;
    const turn = before ? before.then(step) : step();
    const done = () => {
      if (this.#last === last) this.#last = undefined;
      end();
    };
    turn.then(done, done);
    return turn;
  }
}
