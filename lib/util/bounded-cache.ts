/** A cache of at most `max` values. A `set` beyond that removes the values that were set longest ago. */
export class BoundedCache<V> {
  /** In the order of their last `set`, so the first ones are the oldest. */
  readonly #entries = new Map<string, { readonly value: V; readonly expiresAt: number }>();

  /** @param ttl milliseconds from the last `set` of a value to its end. With it, `get` and `set` need `now`. */
  constructor(
    private readonly max: number,
    private readonly ttl = Infinity,
  ) {}

  get(key: string, now = 0): V | undefined {
    const entry = this.#entries.get(key);
    return entry && entry.expiresAt > now ? entry.value : undefined;
  }

  set(key: string, value: V, now = 0): void {
    this.#entries.delete(key);
    this.#entries.set(key, { value, expiresAt: now + this.ttl });
    // Ends at the first value to keep: all after it were set later.
    for (const [oldest, { expiresAt }] of this.#entries) {
      if (expiresAt > now && this.#entries.size <= this.max) return;
      this.#entries.delete(oldest);
    }
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }
}
