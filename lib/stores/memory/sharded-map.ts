const SHARDS = 256;

/**
 * A Map of a million keys that grows and shrinks in small steps: a single one would copy itself whole, and keep the
 * event loop for a tenth of a second each time. The first two characters of a key choose the part it is in.
 */
export class ShardedMap<V> {
  readonly #shards = Array.from({ length: SHARDS }, () => new Map<string, V>());
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(key: string): V | undefined {
    return this.#shard(key).get(key);
  }

  set(key: string, value: V): void {
    const shard = this.#shard(key);
    const before = shard.size;
    shard.set(key, value);
    this.#size += shard.size - before;
  }

  delete(key: string): void {
    if (this.#shard(key).delete(key)) this.#size--;
  }

  clear(): void {
    for (const shard of this.#shards) shard.clear();
    this.#size = 0;
  }

  #shard(key: string): Map<string, V> {
    return this.#shards[(key.charCodeAt(0) * 31 + key.charCodeAt(1)) & (SHARDS - 1)];
  }
}
