import type { SessionDelta, SessionRecord } from './session-store.js';

/** The record that a delta makes of another, for stores that write records whole; neither is changed. */
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
