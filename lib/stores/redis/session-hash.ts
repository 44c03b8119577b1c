import type { SessionDelta, SessionRecord } from '../session-store.js';

/** The fields of the header. */
export const CREATED = 'c';
export const ACCESSED = 'a';
export const EXPIRES = 'e';
export const USER = 'u';
/** Which rotation has moved it here. */
export const ROTATION = 'r';
/** The id that has been given to what was the session. */
export const MOVED_TO = 't';
/** In front of the name of every field of the session's, so that none is ever taken for one of the header's. */
const MARK = '.';

/** A hash as HGETALL hands it out: names and values in turn. */
export type Pairs = readonly string[];

/** What the index must know of a session before it was changed. */
export interface Indexed {
  readonly expiresAt: number;
  readonly userId?: string;
}

/** A record as the arguments of HSET. */
export function pairsOf({ createdAt, lastAccessedAt, expiresAt, userId, fields }: SessionRecord): string[] {
  const pairs = [CREATED, `${createdAt}`, ACCESSED, `${lastAccessedAt}`, EXPIRES, `${expiresAt}`];
  if (userId !== undefined) pairs.push(USER, userId);
  for (const [name, text] of fields) pairs.push(MARK + name, text);
  return pairs;
}

/** A delta as the arguments of HSET and of HDEL. */
export function changesOf({ set, delete: deleted, header }: SessionDelta): {
  pairs: string[];
  removed: string[];
} {
  const pairs: string[] = [];
  const removed = deleted.map((name) => MARK + name);
  if (header.lastAccessedAt !== undefined) pairs.push(ACCESSED, `${header.lastAccessedAt}`);
  if (header.expiresAt !== undefined) pairs.push(EXPIRES, `${header.expiresAt}`);
  if (header.userId === null) removed.push(USER);
  else if (header.userId !== undefined) pairs.push(USER, header.userId);
  for (const [name, text] of set) pairs.push(MARK + name, text);
  return { pairs, removed };
}

/** The record in a hash; undefined if there is none, or something that this library did not write. */
export function recordIn(pairs: Pairs): SessionRecord | undefined {
  const fields = new Map<string, string>();
  let createdAt = Number.NaN;
  let lastAccessedAt = Number.NaN;
  let expiresAt = Number.NaN;
  let userId: string | undefined;
  for (let index = 0; index < pairs.length; index += 2) {
    const name = pairs[index];
    const value = pairs[index + 1];
    if (name.startsWith(MARK)) fields.set(name.slice(1), value);
    else if (name === CREATED) createdAt = Number(value);
    else if (name === ACCESSED) lastAccessedAt = Number(value);
    else if (name === EXPIRES) expiresAt = Number(value);
    else if (name === USER) userId = value;
  }
  // The sum of the three is a number if each of them is.
  if (!Number.isFinite(createdAt + lastAccessedAt + expiresAt)) return undefined;
  return { createdAt, lastAccessedAt, expiresAt, userId, fields };
}

/** One value of a hash. */
export function valueIn(pairs: Pairs, name: string): string | undefined {
  const index = pairs.findIndex((text, position) => position % 2 === 0 && text === name);
  return index < 0 ? undefined : pairs[index + 1];
}
