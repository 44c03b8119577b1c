import { readCookie } from './cookie-header.js';

/** Browsers drop a cookie whose name and value are longer together (RFC 6265bis §5.6). */
const LONGEST_COOKIE = 4096;

/** The most cookies that one value is spread over. */
export const MOST_CHUNKS = 3;

/** The first cookie of several ends in this and their number. */
const COUNT = '~3';

/** The name of the cookie that holds a part of what `name` holds: `name`, `name.1`, `name.2`. */
export function chunkName(name: string, index: number): string {
  return index === 0 ? name : `${name}.${index}`;
}

/** How many characters of a value there is room for in so many cookies. */
export function roomIn(chunks: number, name: string): number {
  return chunks === 1
    ? LONGEST_COOKIE - name.length
    : chunks * (LONGEST_COOKIE - chunkName(name, 1).length) - COUNT.length;
}

/**
 * A value as the values of as many cookies as it takes. The first of several ends in `~` and the number of them:
 *
 *     name=<part>~3; name.1=<part>; name.2=<part>
 */
export function chunksOf(name: string, value: string): readonly string[] {
  if (name.length + value.length <= LONGEST_COOKIE) return [value];
  const size = LONGEST_COOKIE - chunkName(name, 1).length;
  const first = size - COUNT.length;
  const parts = [value.slice(0, first)];
  for (let at = first; at < value.length; at += size) parts.push(value.slice(at, at + size));
  parts[0] += `~${parts.length}`;
  return parts;
}

/** The value that a request carries in as many cookies as the first one says; undefined if one of them is not there. */
export function joinChunks(header: string, name: string, first: string): string | undefined {
  const [, start, count] = /^([^~]*)~([23])$/.exec(first) ?? [];
  if (start === undefined) return first;
  let whole = start;
  for (let index = 1; index < Number(count); index++) {
    const part = readCookie(header, chunkName(name, index));
    if (typeof part !== 'string') return undefined;
    whole += part;
  }
  return whole;
}

/** The names of the cookies that a browser still has of a value that took more than `chunks` of them. */
export function* staleChunks(header: string | undefined, name: string, chunks: number): Generator<string> {
  for (let index = chunks; index < MOST_CHUNKS; index++) {
    const stale = chunkName(name, index);
    if (header?.includes(`${stale}=`)) yield stale;
  }
}
