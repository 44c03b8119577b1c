/**
 * True if a redirect to `path` stays on this site: it starts with one slash, and browsers find no host in it
 * (`//evil`, `/\evil`, `/<tab>/evil`; ASVS 5.0 V3.7.2, WHATWG URL §4.4).
 */
export function isLocalPath(path: unknown): path is string {
  // eslint-disable-next-line no-control-regex -- it looks for control characters
  return typeof path === 'string' && /^\/(?![/\\])[^\x00-\x1f\x7f\\]*$/.test(path);
}
