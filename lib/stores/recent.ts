/** Remembers values for a while, and no more of them than a number: the oldest go first. */
export class Recent<V> {
  readonly #entries = new Map<string, { readonly value: V; readonly until: number }>();

  /** @param milliseconds how long a value is remembered after it was last set. */
  constructor(
    private readonly milliseconds: number,
    private readonly most: number,
  ) {}

  get(key: string, now: number): V | undefined {
    const entry = this.#entries.get(key);
    return entry && entry.until > now ? entry.value : undefined;
  }

  set(key: string, value: V, now: number): void {
    this.#entries.delete(key); // so that the order is that of the last setting
    this.#entries.set(key, { value, until: now + this.milliseconds });
    for (const [oldest, { until }] of this.#entries) {
      if (until > now && this.#entries.size <= this.most) return;
      this.#entries.delete(oldest);
    }
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }
}
