const SHARDS = 256;

/**
 * A Map for a million keys, made of 256 smaller ones that grow and shrink one at a time. A single Map would copy all of
 * its entries when it grows, and block the event loop for a tenth of a second. The first two characters of a key choose
 * its shard.
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
