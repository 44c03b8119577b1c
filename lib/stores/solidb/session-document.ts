import { tooLarge } from '../too-large.js';
import type { DeadRecord, SessionRecord } from '../session-store.js';

/**
 * A session as a document of the database. A write merges top-level fields and cannot remove one, so all session fields
 * are in `data`. It is one JSON text, `[[field, text], …]`, because a server may change or refuse a nested object with
 * `__proto__`, a NUL or half a surrogate pair.
 */
export interface SessionDocument {
  readonly created_at: number;
  readonly last_accessed: number;
  /** Milliseconds. 0 if the session has ended and its document is not deleted yet. */
  readonly expires_at: number;
  /** `expires_at` in seconds, rounded up, for a TTL index. */
  readonly purge_at: number;
  readonly user_id: string | null;
  readonly data: string;
}

/** The fields to write when a session ends. From then on no process finds it, even if its document is not deleted. */
export const ENDED: Partial<SessionDocument> = { expires_at: 0, purge_at: 0, user_id: null, data: '[]' };

/** The largest `data`, in bytes. The server takes documents of 10 MiB; 16 KiB are for the other fields. */
const MOST_BYTES = 10 * 1024 * 1024 - 16 * 1024;

/** Makes the document of a record. Throws `SessionTooLargeError`. */
export function documentOf(record: SessionRecord): SessionDocument {
  const data = JSON.stringify([...record.fields]);
  // A character takes at most six bytes, so short texts need not be measured.
  const size = data.length * 6 > MOST_BYTES ? Buffer.byteLength(JSON.stringify(data)) : 0;
  if (size > MOST_BYTES) throw tooLarge(record, size, MOST_BYTES);
  return {
    created_at: record.createdAt,
    last_accessed: record.lastAccessedAt,
    ...expiryOf(record.expiresAt),
    user_id: record.userId ?? null,
    data,
  };
}

export function expiryOf(expiresAt: number): Pick<SessionDocument, 'expires_at' | 'purge_at'> {
  return { expires_at: expiresAt, purge_at: Math.ceil(expiresAt / 1000) };
}

/** Reads a document: the record if the session is live, otherwise the reason why it is not. */
export function sessionIn(
  document: Record<string, unknown>,
  now: number,
): SessionRecord | DeadRecord | 'ended' {
  const {
    created_at: createdAt,
    last_accessed: lastAccessedAt,
    expires_at: expiresAt,
    user_id,
    data,
  } = document;
  if (expiresAt === 0) return 'ended';
  const userId = user_id ?? undefined;
  const fields = fieldsOf(data);
  if (!isNumber(createdAt) || !isNumber(lastAccessedAt) || !isNumber(expiresAt) || !fields)
    return 'undecodable';
  if (userId !== undefined && typeof userId !== 'string') return 'undecodable';
  return expiresAt > now ? { createdAt, lastAccessedAt, expiresAt, userId, fields } : 'expired';
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number';
}

function fieldsOf(data: unknown): Map<string, string> | undefined {
  try {
    const pairs = JSON.parse(data as string) as unknown[];
    return pairs.every(isPair) ? new Map(pairs) : undefined;
  } catch {
    return undefined;
  }
}

function isPair(value: unknown): value is [string, string] {
  return Array.isArray(value) && value.length === 2 && value.every((part) => typeof part === 'string');
}
