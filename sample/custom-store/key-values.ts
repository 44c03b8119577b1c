import { setImmediate as roundTrip } from 'node:timers/promises';

/** What `KeyValueStore` asks of a service. */
export interface KeyValues {
  /**
   * Replaces a value by what `next` makes of it (`undefined`: there is none), in one step; what it was. `next` may be
   * called more than once.
   */
  update(key: string, next: (text: string | undefined) => string | undefined): Promise<string | undefined>;
}

interface Versioned {
  readonly text: string;
  readonly version: number;
}

/**
 * Stands in for a service over the network. Most offer what is needed here, that a write can say which version it
 * replaces: mod_revision in etcd, ModifyIndex in Consul, gets and cas in memcached, a condition in DynamoDB,
 * `UPDATE … WHERE version = ?` in SQL.
 */
export class InMemoryKeyValues implements KeyValues {
  readonly #values = new Map<string, Versioned>();
  #writes = 0;

  async update(
    key: string,
    next: (text: string | undefined) => string | undefined,
  ): Promise<string | undefined> {
    for (;;) {
      const found = await this.#get(key);
      const text = next(found?.text);
      // Whoever finds that somebody else has written meanwhile looks again.
      if (text === found?.text || (await this.#replace(key, found?.version, text))) return found?.text;
    }
  }

  async #get(key: string): Promise<Versioned | undefined> {
    await roundTrip();
    return this.#values.get(key);
  }

  /** Writes, or removes for `undefined`, if the key has this version (`undefined`: is not there); whether it had. */
  async #replace(key: string, version: number | undefined, text: string | undefined): Promise<boolean> {
    await roundTrip();
    if (this.#values.get(key)?.version !== version) return false;
    // No version comes twice: what was removed and put again is not taken for what it was before.
    if (text === undefined) this.#values.delete(key);
    else this.#values.set(key, { text, version: ++this.#writes });
    return true;
  }
}
