import type { HttpRequest } from '../http/request-context.js';
import type { SessionRecord } from '../stores/session-store.js';
import type { FieldChanges } from './session-fields.js';
import { DATA, LOGIN_AGENT, LOGIN_AT, LOGIN_IP } from './field-names.js';

/** As much of a User-Agent as is kept; the header is the client's to choose. */
const AGENT_LENGTH = 256;

/** A user id as text: strings, and numbers for those who count their users. */
export function userIdOf(value: unknown): string | undefined {
  if (typeof value === 'number') return String(value);
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** The user that changes write under `authKey`; null for nobody, undefined if they say nothing of it. */
export function writtenUser(changes: FieldChanges, authKey: string): string | null | undefined {
  const field = DATA + authKey;
  const text = changes.set.get(field);
  if (text !== undefined) return userIdOf(JSON.parse(text)) ?? null;
  return changes.delete.includes(field) ? null : undefined;
}

/** True for a login and for the end of one: the written user is not the stored one. */
export function changesUser(
  changes: FieldChanges | undefined,
  authKey: string,
  storedUser: string | undefined,
): boolean {
  const userId = changes && writtenUser(changes, authKey);
  return userId !== undefined && userId !== (storedUser ?? null);
}

/** What is remembered of the request that logs in, by field. */
export function loginFields(request: HttpRequest, now: number): readonly (readonly [string, unknown])[] {
  return [
    [LOGIN_AT, now],
    [LOGIN_AGENT, request.headers['user-agent']?.slice(0, AGENT_LENGTH)],
    [LOGIN_IP, request.ip ?? request.socket?.remoteAddress],
  ];
}

/** When the user of a session logged in, in milliseconds since the epoch. */
export function loggedInAt({ fields, createdAt }: SessionRecord): number {
  return Number(fields.get(LOGIN_AT) ?? createdAt);
}
