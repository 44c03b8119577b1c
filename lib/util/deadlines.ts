/**
 * Calls what was not removed in time. All wait for the same time, so the first to be added is the first to be late, and
 * one timer for the first is enough: a timer for each operation of a store would cost more than the operation.
 */
export class Deadlines {
  readonly #milliseconds: number;
  /** The ends of a list, in the order of addition. */
  #first: PendingDeadline | undefined;
  #last: PendingDeadline | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(milliseconds: number) {
    this.#milliseconds = milliseconds;
  }

  add(late: () => void): PendingDeadline {
    const added: PendingDeadline = {
      at: performance.now() + this.#milliseconds,
      late,
      waits: true,
      previous: this.#last,
      next: undefined,
    };
    if (this.#last) this.#last.next = added;
    else this.#first = added;
    this.#last = added;
    if (!this.#timer) this.#wait(this.#milliseconds);
    return added;
  }

  /** Whether it was still waiting. */
  delete(deadline: PendingDeadline): boolean {
    if (!deadline.waits) return false;
    const { previous, next } = deadline;
    deadline.waits = false;
    if (previous) previous.next = next;
    else this.#first = next;
    if (next) next.previous = previous;
    else this.#last = previous;
    // Whoever still holds this one does not hold all that came after it.
    deadline.previous = deadline.next = undefined;
    return true;
  }

  /** Whoever waits for a store that never answers does not keep the process for that alone. */
  #wait(milliseconds: number): void {
    this.#timer = setTimeout(() => this.#check(), Math.max(1, Math.ceil(milliseconds))).unref();
  }

  #check(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (let deadline = this.#first; deadline; deadline = this.#first) {
      if (deadline.at > now) return this.#wait(deadline.at - now);
      deadline.late();
      this.delete(deadline);
    }
  }
}

/** One that waits, linked to those before and after it: no hashing, and nothing left behind. */
export interface PendingDeadline {
  readonly at: number;
  readonly late: () => void;
  waits: boolean;
  previous: PendingDeadline | undefined;
  next: PendingDeadline | undefined;
}
