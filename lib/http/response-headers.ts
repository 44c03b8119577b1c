import type { ServerResponse } from 'node:http';

/** Headers that are about to leave: those of a response, or those that were handed to its `writeHead`. */
export interface LeavingHeaders extends Pick<ServerResponse, 'getHeader' | 'hasHeader'> {
  setHeader(name: string, value: string | string[]): unknown;
}

/** Adds a Set-Cookie line beside the others; of one name there is one line, and this is it (RFC 6265bis §4.1.1). */
export function setCookie(response: LeavingHeaders, name: string, line: string): void {
  const others = [response.getHeader('Set-Cookie') ?? []].flat().map(String);
  response.setHeader('Set-Cookie', [...others.filter((other) => !other.startsWith(`${name}=`)), line]);
  addVary(response, 'Cookie');
  if (!response.hasHeader('Cache-Control')) response.setHeader('Cache-Control', 'no-store');
}

/** Whether the application lets shared caches keep the response, and hand it to others. */
export function isPublic(response: LeavingHeaders): boolean {
  return /\b(?:public|s-maxage)\b/i.test(String(response.getHeader('Cache-Control') ?? ''));
}

/** Adds a field to Vary, unless it is there. */
export function addVary(response: LeavingHeaders, field: string): void {
  const present = response.getHeader('Vary');
  if (present === undefined) {
    response.setHeader('Vary', field);
    return;
  }
  const names = String(present)
    .toLowerCase()
    .split(/\s*,\s*/);
  if (names.includes('*') || names.includes(field.toLowerCase())) return;
  response.setHeader('Vary', present ? `${String(present)}, ${field}` : field);
}
