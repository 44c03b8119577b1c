/**
 * Whether a redirect to `path` stays on this site: it starts with one slash, and no browser reads a host out of it
 * (`//evil`, `/\evil`, `/<tab>/evil`; ASVS 5.0 V3.7.2, WHATWG URL §4.4).
 */
export function isLocalPath(path: unknown): path is string {
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  return typeof path === 'string' && /^\/(?![/\\])[^\x00-\x1f\x7f\\]*$/.test(path);
}
