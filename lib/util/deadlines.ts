/**
 * Calls `late` for each deadline that is not deleted within `milliseconds`. All deadlines have the same length, so the
 * first one added is the first one due, and one timer is enough. A timer for each operation of a store would cost more
 * than the operation.
 */
export class Deadlines {
  readonly #milliseconds: number;
  /** The first and the last entry of a linked list, in the order of addition. */
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

  /** Removes a deadline; false if it was removed or due before. */
  delete(deadline: PendingDeadline): boolean {
    if (!deadline.waits) return false;
    const { previous, next } = deadline;
    deadline.waits = false;
    if (previous) previous.next = next;
    else this.#first = next;
    if (next) next.previous = previous;
    else this.#last = previous;
    // So that a reference to this entry does not keep its neighbours in memory.
    deadline.previous = deadline.next = undefined;
    return true;
  }

  /** Sets the timer. It does not keep the process alive for a store that never answers. */
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

/** An entry of {@link Deadlines}, linked to its neighbours: adding and deleting it needs no hashing. */
export interface PendingDeadline {
  readonly at: number;
  readonly late: () => void;
  waits: boolean;
  previous: PendingDeadline | undefined;
  next: PendingDeadline | undefined;
}
