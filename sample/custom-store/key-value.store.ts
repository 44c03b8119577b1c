import { mergedRecord, type SessionDelta, type SessionRecord, type SessionStore } from 'nest-session';
import { decoded, encoded } from './codec.js';
import type { KeyValues } from './key-values.js';

/** Keeps sessions in any key-value service that can change a value in one step. */
export class KeyValueStore implements SessionStore {
  constructor(
    private readonly values: KeyValues,
    private readonly clock: () => number = Date.now,
  ) {}

  async create(id: string, record: SessionRecord) {
    return (await this.#change(id, (live) => live ?? record)) ? 'exists' : 'created';
  }

  load(id: string) {
    return this.#change(id, (live) => live);
  }

  touch(id: string, expiresAt: number) {
    return this.commit(id, { set: new Map(), delete: [], header: { expiresAt } });
  }

  async commit(id: string, delta: SessionDelta) {
    return (await this.#change(id, (live) => live && mergedRecord(live, delta))) ? 'saved' : 'gone';
  }

  async rotate(id: string, newId: string, delta: SessionDelta) {
    // Taken away first: of two rotations one gets it, and whatever fails in between, it is not under both ids.
    const record = await this.#change(id, () => undefined);
    if (record) await this.create(newId, mergedRecord(record, delta));
    return record ? 'saved' : 'gone';
  }

  async destroy(id: string) {
    return (await this.#change(id, () => undefined)) !== undefined;
  }

  /** Makes of a live record, and of nothing else, what `next` says; what it was. The dead is removed in passing. */
  async #change(id: string, next: (live: SessionRecord | undefined) => SessionRecord | undefined) {
    const before = await this.values.update(id, (text) => encoded(next(decoded(text, this.clock()))));
    return decoded(before, this.clock());
  }
}
