import type { SessionRecord } from 'nest-session';

export function encoded(record: SessionRecord | undefined): string | undefined {
  return record && JSON.stringify({ ...record, fields: [...record.fields] });
}

/** The record in a text, if it is one and its time is not over. */
export function decoded(text: string | undefined, now: number): SessionRecord | undefined {
  try {
    const record = JSON.parse(text ?? 'null');
    return record?.expiresAt > now ? { ...record, fields: new Map(record.fields) } : undefined;
  } catch {
    return undefined;
  }
}
