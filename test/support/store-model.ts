import type { SessionDelta, SessionRecord } from 'nest-session';

/** What a session store is, in as few lines as it takes: the reference that real ones are compared with. */
export class StoreModel {
  readonly #records = new Map<string, SessionRecord>();
  now = 0;
  load(id: string): SessionRecord | undefined {
    const record = this.#records.get(id);
    return record && record.expiresAt > this.now ? record : undefined;
  }

  create(id: string, record: SessionRecord): string {
    if (this.load(id)) return 'exists';
    this.#records.set(id, { ...record, fields: new Map(record.fields) });
    return 'created';
  }

  commit(id: string, { set, delete: removed, header }: SessionDelta): string {
    const record = this.load(id);
    if (!record) return 'gone';
    const fields = new Map([...record.fields, ...set]);
    for (const field of removed) fields.delete(field);
    const { userId = record.userId, ...times } = header;
    this.#records.set(id, { ...record, ...times, userId: userId ?? undefined, fields });
    return 'saved';
  }

  touch(id: string, expiresAt: number): string {
    return this.commit(id, { set: new Map(), delete: [], header: { expiresAt } });
  }

  rotate(id: string, newId: string, delta: SessionDelta): string {
    if (this.commit(id, delta) === 'gone') return 'gone';
    this.#records.set(newId, this.#records.get(id) as SessionRecord);
    this.#records.delete(id);
    return 'saved';
  }

  destroy(id: string): boolean {
    return this.load(id) !== undefined && this.#records.delete(id);
  }

  listByUser(userId: string): Map<string, SessionRecord> {
    return new Map([...this.#records].filter(([id]) => this.load(id)?.userId === userId));
  }

  count(): number {
    return [...this.#records.keys()].filter((id) => this.load(id)).length;
  }
}
