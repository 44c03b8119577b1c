import { tooLarge } from '../too-large.js';
import type { DeadRecord, SessionRecord } from '../session-store.js';

/**
 * A session as the database has it. A write merges top-level fields and cannot remove one, so everything that can
 * vanish sits inside `data`. That is one JSON text, `[[field, text], …]`, because a server may take apart or refuse
 * what it can look into: `__proto__`, a NUL, half a surrogate pair.
 */
export interface SessionDocument {
  readonly created_at: number;
  readonly last_accessed: number;
  /** Milliseconds; 0 in a session that has ended and whose document is yet to be deleted. */
  readonly expires_at: number;
  /** The same in seconds, rounded up: the only number that a TTL index understands. */
  readonly purge_at: number;
  readonly user_id: string | null;
  readonly data: string;
}

/** What to write over a session that ends. From then on it is gone for everybody, deleted or not. */
export const ENDED: Partial<SessionDocument> = { expires_at: 0, purge_at: 0, user_id: null, data: '[]' };

/** The server takes 10 MiB; some of it is for the rest of the document. */
const MOST_BYTES = 10 * 1024 * 1024 - 16 * 1024;

export function documentOf(record: SessionRecord): SessionDocument {
  const data = JSON.stringify([...record.fields]);
  // No character takes more than six bytes, so most need not be counted.
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

/** What a document says of its session: the record if it is live, or why it is not. */
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
