import type { SessionRecord } from '../session-store.js';

/** The content of a sealed cookie. */
export interface SealedRecord {
  readonly secret: string;
  /** The instant at which the cookie was made, in milliseconds. */
  readonly savedAt: number;
  readonly record: SessionRecord;
}

/**
 * Encodes the text to seal:
 *
 *     [1, savedAt, createdAt, lastAccessedAt, expiresAt, secret, userId or null, name, length, name, length …] LF text text …
 *
 * The first line is JSON. The texts of the fields follow unchanged, so that no quote is escaped twice and no field is
 * parsed unless it is read.
 */
export function encodeRecord({ secret, savedAt, record }: SealedRecord): string {
  const { createdAt, lastAccessedAt, expiresAt, userId = null, fields } = record;
  const head: unknown[] = [1, savedAt, createdAt, lastAccessedAt, expiresAt, secret, userId];
  let texts = '';
  for (const [name, text] of fields) {
    head.push(name, text.length);
    texts += text;
  }
  return `${JSON.stringify(head)}\n${texts}`;
}

/** Decodes a text of {@link encodeRecord}; undefined for any other text. */
export function decodeRecord(sealed: string): SealedRecord | undefined {
  const end = sealed.indexOf('\n');
  const [version, savedAt, createdAt, lastAccessedAt, expiresAt, secret, userId, ...sizes] = list(
    sealed.slice(0, end),
  );
  const times = [savedAt, createdAt, lastAccessedAt, expiresAt];
  if (version !== 1 || !times.every(Number.isSafeInteger) || typeof secret !== 'string') return undefined;
  if (userId !== null && typeof userId !== 'string') return undefined;
  const fields = new Map<string, string>();
  let at = end + 1;
  for (let index = 0; index < sizes.length; index += 2) {
    const [name, length] = [sizes[index], sizes[index + 1]];
    if (typeof name !== 'string' || !Number.isSafeInteger(length) || (length as number) < 0) return undefined;
    fields.set(name, sealed.slice(at, (at += length as number)));
  }
  if (end === -1 || at !== sealed.length) return undefined;
  const [, ...header] = times as number[];
  return {
    secret,
    savedAt: savedAt as number,
    record: {
      createdAt: header[0],
      lastAccessedAt: header[1],
      expiresAt: header[2],
      userId: userId ?? undefined,
      fields,
    },
  };
}

function list(json: string): readonly unknown[] {
  try {
    const value: unknown = JSON.parse(json);
    return Array.isArray(value) ? value : [];
  } catch {
    return [];
  }
}
