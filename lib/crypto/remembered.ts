/** Values under texts, up to a number of them: then the oldest are forgotten. */
export class Remembered<V> {
  readonly #values = new Map<string, V>();

  constructor(private readonly most: number) {}

  get(text: string): V | undefined {
    return this.#values.get(text);
  }

  set(text: string, value: V): void {
    if (this.#values.size >= this.most) this.#forgetOldest();
    this.#values.set(text, value);
  }

  delete(text: string): void {
    this.#values.delete(text);
  }

  clear(): void {
    this.#values.clear();
  }

  #forgetOldest(): void {
    for (const oldest of this.#values.keys()) {
      this.#values.delete(oldest);
      return;
    }
  }
}
