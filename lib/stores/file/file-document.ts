import { sha256 } from '../../util/sha256.js';
import type { SessionRecord } from '../session-store.js';

/** A session as a document holds it: with its id, because the name of the file is only a hash of the id. */
export interface StoredSession {
  readonly id: string;
  readonly record: SessionRecord;
}

/** The name on the disk for the id of a session or a user: its SHA-256 in hex. */
export function nameOf(id: string): string {
  return sha256(id);
}

/** Encodes a session as readable JSON. */
export function encodeDocument({ id, record }: StoredSession): string {
  const { createdAt, lastAccessedAt, expiresAt, userId, fields } = record;
  const document = { version: 1, id, createdAt, lastAccessedAt, expiresAt, userId };
  return `${JSON.stringify({ ...document, fields: Object.fromEntries(fields) }, undefined, 2)}\n`;
}

/** Decodes the document called `name`; undefined for a text that {@link encodeDocument} did not write for it. */
export function decodeDocument(text: string, name: string): StoredSession | undefined {
  const document = parse(text);
  if (!isObject(document)) return undefined;
  const { version, id, createdAt, lastAccessedAt, expiresAt, userId, fields } = document;
  const sound =
    version === 1 &&
    typeof id === 'string' &&
    nameOf(id) === name &&
    [createdAt, lastAccessedAt, expiresAt].every(Number.isSafeInteger) &&
    (userId === undefined || typeof userId === 'string') &&
    isObject(fields) &&
    Object.values(fields).every((field) => typeof field === 'string');
  if (!sound) return undefined;
  const header = { createdAt, lastAccessedAt, expiresAt, userId } as Omit<SessionRecord, 'fields'>;
  return { id, record: { ...header, fields: new Map(Object.entries(fields) as [string, string][]) } };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
