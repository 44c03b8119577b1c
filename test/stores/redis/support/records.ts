import type { SessionDelta, SessionRecord } from 'nest-session';

let made = 0;

/** An id that no test has had before. */
export const newId = (): string => (++made).toString(16).padStart(64, '0');

/** A record that lives for an hour. */
export function record(fields: Record<string, string> = { a: '1' }, userId?: string): SessionRecord {
  const now = Date.now();
  return {
    createdAt: now,
    lastAccessedAt: now,
    expiresAt: now + 3_600_000,
    userId,
    fields: new Map(Object.entries(fields)),
  };
}

export function delta(
  set: Record<string, string> = {},
  removed: readonly string[] = [],
  header: SessionDelta['header'] = { lastAccessedAt: Date.now() },
): SessionDelta {
  return { set: new Map(Object.entries(set)), delete: removed, header };
}

/** The answer of an operation, or 'refused'. A test that waits for one that never ends fails by its own timeout. */
export async function outcome<T>(operation: Promise<T>): Promise<T | 'refused'> {
  try {
    return await operation;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return 'refused';
  }
}
