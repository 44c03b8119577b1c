const SPACE = 32;
const TAB = 9;

/**
 * The value of the cookie called `name` in a raw Cookie header: exact case, not decoded, no quotes stripped,
 * SP and HTAB trimmed. {@link DUPLICATE} when the name occurs twice: which of the two a
 * client means cannot be known (RFC 6265bis: servers SHOULD NOT rely on the order).
 *
 * One pass over the header, whatever it holds.
 */
export function readCookie(header: string | undefined, name: string): string | typeof DUPLICATE | undefined {
  if (header === undefined || !header.includes(name)) return undefined;
  let found: string | undefined;
  let equals = -1;
  for (let start = 0, end = 0; start < header.length; start = end + 1) {
    const semicolon = header.indexOf(';', start);
    end = semicolon === -1 ? header.length : semicolon;
    // The next '=' is looked for only after the last one is behind us; in every part, it would be quadratic.
    if (equals < start) equals = header.indexOf('=', start);
    if (equals === -1) break;
    if (equals < end) {
      const first = skipBlanks(header, start, equals);
      const last = trimBlanks(header, first, equals);
      if (last - first === name.length && header.startsWith(name, first)) {
        if (found !== undefined) return DUPLICATE;
        const from = skipBlanks(header, equals + 1, end);
        found = header.slice(from, trimBlanks(header, from, end));
      }
    }
  }
  return found;
}

/** Two cookies of one name. */
export const DUPLICATE = Symbol('duplicate cookie');

function skipBlanks(text: string, from: number, to: number): number {
  while (from < to && isBlank(text.charCodeAt(from))) from++;
  return from;
}

function trimBlanks(text: string, from: number, to: number): number {
  while (to > from && isBlank(text.charCodeAt(to - 1))) to--;
  return to;
}

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB;
}
