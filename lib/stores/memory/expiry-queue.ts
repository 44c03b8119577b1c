/** An entry of an {@link ExpiryQueue}. */
export interface Expiring {
  expiresAt: number;
  /** Index in the heap. Only the queue changes it. */
  position: number;
}

/**
 * A binary heap ordered by expiry, whose entries can be moved and removed in O(log n). Finding expired entries needs
 * neither a scan nor a timer per entry.
 */
export class ExpiryQueue<T extends Expiring> {
  readonly #heap: T[] = [];

  get first(): T | undefined {
    return this.#heap[0];
  }

  add(entry: T): void {
    entry.position = this.#heap.length;
    this.#heap.push(entry);
    this.#rise(entry);
  }

  /** Call after `entry.expiresAt` has changed. */
  moved(entry: T): void {
    this.#rise(entry);
    this.#sink(entry);
  }

  remove(entry: T): void {
    const last = this.#heap.pop() as T;
    if (last === entry) return;
    last.position = entry.position;
    this.#heap[last.position] = last;
    this.moved(last);
  }

  clear(): void {
    this.#heap.length = 0;
  }

  #rise(entry: T): void {
    const heap = this.#heap;
    while (entry.position > 0) {
      const parent = heap[(entry.position - 1) >> 1];
      if (parent.expiresAt <= entry.expiresAt) return;
      this.#swap(parent, entry);
    }
  }

  #sink(entry: T): void {
    const heap = this.#heap;
    for (;;) {
      const left = 2 * entry.position + 1;
      if (left >= heap.length) return;
      const right = left + 1;
      const child =
        right < heap.length && heap[right].expiresAt < heap[left].expiresAt ? heap[right] : heap[left];
      if (entry.expiresAt <= child.expiresAt) return;
      this.#swap(entry, child);
    }
  }

  #swap(a: T, b: T): void {
    const { position } = a;
    a.position = b.position;
    b.position = position;
    this.#heap[a.position] = a;
    this.#heap[b.position] = b;
  }
}
