import type { OutgoingHttpHeader, ServerResponse } from 'node:http';

/** Headers that are about to leave: those of a response, or those that were handed to its `writeHead`. */
export interface OutgoingHeaders extends Pick<ServerResponse, 'getHeader' | 'hasHeader'> {
  setHeader(name: string, value: string | string[]): unknown;
}

type HeaderObject = Record<string, OutgoingHttpHeader | undefined>;

/**
 * The arguments for `writeHead(status, [message], [headers])` with the headers of `add` among the others.
 *
 * Headers that were handed over as one object, as Fastify does, stay a list that Node sends as it is: setting them one
 * by one costs 4 to 8 µs. All others are set on the response first.
 */
export function joinHead(
  response: ServerResponse,
  [status, ...rest]: unknown[],
  add: (headers: OutgoingHeaders) => void,
): unknown[] {
  const headers = rest.find((arg) => typeof arg === 'object' && arg !== null);
  const message = typeof rest[0] === 'string' ? [rest[0]] : [];
  const list = headers && !Array.isArray(headers) ? listOf(response, headers as HeaderObject) : undefined;
  if (list) {
    add(list);
    return [status, ...message, list.values];
  }
  if (Array.isArray(headers)) setFlat(response, headers);
  else if (headers) setAll(response, headers as HeaderObject);
  add(response);
  return [status, ...message];
}

/** The headers as a list, or undefined where some are set on the response already or one has no value. */
function listOf(response: ServerResponse, headers: HeaderObject): HeaderList | undefined {
  if (response.getHeaderNames().length > 0) return undefined;
  const values: OutgoingHttpHeader[] = [];
  for (const name of Object.keys(headers)) {
    const value = headers[name];
    if (value === undefined) return undefined;
    values.push(name, value);
  }
  return new HeaderList(values);
}

/** Headers in Node's flat form: name, value, name, value. */
class HeaderList implements OutgoingHeaders {
  constructor(readonly values: OutgoingHttpHeader[]) {}

  getHeader(name: string): OutgoingHttpHeader | undefined {
    return this.values[this.#position(name) + 1];
  }

  hasHeader(name: string): boolean {
    return this.#position(name) < this.values.length;
  }

  setHeader(name: string, value: OutgoingHttpHeader): void {
    const position = this.#position(name);
    this.values[position] = name;
    this.values[position + 1] = value;
  }

  /** The index of the name; the end of the list for a name that is not there. */
  #position(name: string): number {
    for (let index = 0; index < this.values.length; index += 2) {
      const other = this.values[index] as string;
      if (other.length === name.length && other.toLowerCase() === name.toLowerCase()) return index;
    }
    return this.values.length;
  }
}

function setAll(response: ServerResponse, headers: HeaderObject): void {
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) response.setHeader(name, value);
  }
}

/** The flat form may hold a name more than once. */
function setFlat(response: ServerResponse, headers: readonly unknown[]): void {
  const flat = headers.flat() as string[];
  for (let index = 0; index < flat.length; index += 2) response.removeHeader(flat[index]);
  for (let index = 0; index < flat.length; index += 2) response.appendHeader(flat[index], flat[index + 1]);
}

/**
 * Adds a Set-Cookie line beside the others; of one name there is one line, and this is it (RFC 6265bis §4.1.1). No shared
 * cache may keep it: such a response is made `private`, and one that says nothing of caches `no-store`.
 */
export function setCookie(headers: OutgoingHeaders, name: string, line: string): void {
  const others = [headers.getHeader('Set-Cookie') ?? []].flat().map(String);
  headers.setHeader('Set-Cookie', [...others.filter((other) => !other.startsWith(`${name}=`)), line]);
  addVary(headers, 'Cookie');
  if (!headers.hasHeader('Cache-Control')) headers.setHeader('Cache-Control', 'no-store');
  else if (isShared(headers)) makePrivate(headers);
}

/** Directives that keep shared caches from handing a response to others unasked; with a list of fields they do not. */
const NOT_SHARED: ReadonlySet<string> = new Set(['private', 'no-store', 'no-cache']);

/** Directives that would contradict `private`, or say less. */
const FOR_SHARED: ReadonlySet<string> = new Set(['public', 's-maxage', 'private']);

/**
 * True where the application's Cache-Control lets shared caches keep the response, and hand it to others (RFC 9111 §3).
 * One that has none is `no-store` as soon as it gets a cookie.
 */
export function isShared(headers: OutgoingHeaders): boolean {
  if (!headers.hasHeader('Cache-Control')) return false;
  return !directivesOf(headers).some((directive) => NOT_SHARED.has(directive.toLowerCase()));
}

function makePrivate(headers: OutgoingHeaders): void {
  const others = directivesOf(headers).filter(
    (directive) => !FOR_SHARED.has(directive.split('=', 1)[0].toLowerCase()),
  );
  headers.setHeader('Cache-Control', ['private', ...others].join(', '));
}

/** The directives of Cache-Control. A comma between quotes is part of one. */
function directivesOf(headers: OutgoingHeaders): string[] {
  const all = String(headers.getHeader('Cache-Control')).match(/(?:[^,"]|"(?:[^"\\]|\\.)*")+/g) ?? [];
  return all.map((directive) => directive.trim()).filter((directive) => directive !== '');
}

/** Adds a field to Vary, unless it is there. */
export function addVary(headers: OutgoingHeaders, field: string): void {
  const present = headers.getHeader('Vary');
  if (present === undefined) {
    headers.setHeader('Vary', field);
    return;
  }
  const names = String(present)
    .toLowerCase()
    .split(/\s*,\s*/);
  if (names.includes('*') || names.includes(field.toLowerCase())) return;
  headers.setHeader('Vary', present ? `${String(present)}, ${field}` : field);
}
