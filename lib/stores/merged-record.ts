import type { SessionDelta, SessionRecord } from './session-store.js';

/** Applies a delta to a record, for stores that write whole records. Returns a new record; changes no argument. */
export function mergedRecord(
  record: SessionRecord,
  { set, delete: removed, header }: SessionDelta,
): SessionRecord {
  const fields = new Map(record.fields);
  for (const field of removed) fields.delete(field);
  for (const [field, text] of set) fields.set(field, text);
  const {
    lastAccessedAt = record.lastAccessedAt,
    expiresAt = record.expiresAt,
    userId = record.userId,
  } = header;
  return { createdAt: record.createdAt, lastAccessedAt, expiresAt, userId: userId ?? undefined, fields };
}

/** The delta with which {@link mergedRecord} makes `after` of `before`; undefined if they are equal. */
export function deltaBetween(before: SessionRecord, after: SessionRecord): SessionDelta | undefined {
  const set = new Map([...after.fields].filter(([name, text]) => before.fields.get(name) !== text));
  const removed = [...before.fields.keys()].filter((name) => !after.fields.has(name));
  const header: { -readonly [K in keyof SessionDelta['header']]: SessionDelta['header'][K] } = {};
  if (after.lastAccessedAt !== before.lastAccessedAt) header.lastAccessedAt = after.lastAccessedAt;
  if (after.expiresAt !== before.expiresAt) header.expiresAt = after.expiresAt;
  if (after.userId !== before.userId) header.userId = after.userId ?? null;
  if (set.size + removed.length + Object.keys(header).length === 0) return undefined;
  return { set, delete: removed, header };
}
