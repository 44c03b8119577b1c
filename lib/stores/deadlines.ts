/**
 * Calls what was not removed in time. All wait for the same time, so the first to be added is the first to be late, and
 * one timer for the first is enough: a timer for each operation of a store would cost more than the operation.
 */
export class Deadlines {
  readonly #milliseconds: number;
  /** In the order of their addition, each with the instant at which it is late. */
  readonly #waiting = new Map<() => void, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(milliseconds: number) {
    this.#milliseconds = milliseconds;
  }

  add(late: () => void): void {
    this.#waiting.set(late, performance.now() + this.#milliseconds);
    if (!this.#timer) this.#wait(this.#milliseconds);
  }

  /** Whether it was still waiting. */
  delete(late: () => void): boolean {
    return this.#waiting.delete(late);
  }

  /** Whoever waits for a store that never answers does not keep the process for that alone. */
  #wait(milliseconds: number): void {
    this.#timer = setTimeout(() => this.#check(), Math.max(1, Math.ceil(milliseconds))).unref();
  }

  #check(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (const [late, at] of this.#waiting) {
      if (at > now) return this.#wait(at - now);
      late();
    }
  }
}
