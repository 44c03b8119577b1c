/** True for a web origin in the one form in which browsers send it. */
export function isOrigin(text: string): boolean {
  return text !== 'null' && originOf(text) === text;
}

/** The origin of a URL; `'null'` if it has none. */
export function originOf(text: string): string {
  try {
    return new URL(text).origin;
  } catch {
    return 'null';
  }
}

/** The origin of a scheme and a Host header, or undefined if the latter is more, or less, than a host. */
export function originOfHost(scheme: string, host: string | undefined): string | undefined {
  if (!host || /[/?#@\\\s]/.test(host)) return undefined;
  const origin = originOf(`${scheme}://${host}`);
  return origin === 'null' ? undefined : origin;
}
