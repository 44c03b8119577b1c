import type { CsrfRules } from '../options/resolved-options.js';
import type { CsrfRefusal } from '../session/session-events.js';
import { isOrigin, originOf } from '../util/origin.js';

/** What there is to go by. Of a header, all the values that came. */
export interface CsrfEvidence {
  /** The method, and what an override makes of it. */
  readonly methods: readonly string[];
  readonly fetchSite: readonly string[];
  readonly origin: readonly string[];
  readonly referer: readonly string[];
  /** Our own origin; undefined if the Host header is not one. */
  readonly own: string | undefined;
  readonly token: CsrfTokenVerdict;
}

/** `unread`: a multipart body that nobody has parsed yet may hold one. */
export type CsrfTokenVerdict = 'valid' | 'invalid' | 'missing' | 'unread';

/** Methods that change nothing (RFC 9110 §9.2.1). QUERY and TRACE are safe there too, but carry a body or reflect. */
const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

/** Whether the request is one that changes nothing, whatever an override says. One without a method may be any. */
export function isSafe(methods: readonly string[]): boolean {
  return methods.length > 0 && methods.every((method) => SAFE.has(method));
}

/**
 * Why a request that changes something is refused, or undefined if it may pass.
 *
 * The headers must not object; then, by mode, the token must be valid (`both`), or there must be proof that one of
 * our own pages sent the request or else a valid token (`auto`), or there must be something in the headers to go by
 * (`origin-only`). OWASP CSRF Cheat Sheet, "Fetch Metadata headers"; Go 1.25 `http.CrossOriginProtection`.
 */
export function refusal(evidence: CsrfEvidence, rules: CsrfRules): CsrfRefusal | undefined {
  const proof = judgeHeaders(evidence, rules.trustedOrigins);
  if (proof === 'fetch-site' || proof === 'origin' || proof === 'referer') return proof;
  if (rules.mode === 'origin-only') return proof === 'nothing' ? 'no-proof' : undefined;
  if (rules.mode === 'auto' && proof === 'same-origin') return undefined;
  switch (evidence.token) {
    case 'valid':
      return undefined;
    case 'invalid':
      return 'token-invalid';
    case 'unread':
      return rules.multipart === 'same-origin' && proof === 'same-origin' ? undefined : 'token-missing';
    case 'missing':
      return 'token-missing';
  }
}

/** `same-origin` is proof, `allowed` no objection, `nothing` neither; the others object. */
type Judgement = 'same-origin' | 'allowed' | 'nothing' | 'fetch-site' | 'origin' | 'referer';

function judgeHeaders(evidence: CsrfEvidence, trusted: ReadonlySet<string>): Judgement {
  const { fetchSite, origin, referer, own } = evidence;
  if (claims(fetchSite)) return judgeFetchSite(fetchSite, origin, trusted);
  if (origin.length > 0) return judgeOrigin(origin, own, trusted) ?? 'origin';
  if (claims(referer)) return judgeOrigin(referer.map(originOf), own, trusted) ?? 'referer';
  return 'nothing';
}

/** The browser's own word. For one of our pages it settles the matter: under `no-referrer` its Origin is `null`. */
function judgeFetchSite(
  site: readonly string[],
  origin: readonly string[],
  trusted: ReadonlySet<string>,
): Judgement {
  if (site.length > 1) return 'fetch-site';
  switch (site[0]) {
    case 'same-origin':
      return 'same-origin';
    case 'none': // typed, bookmarked, reloaded: by the user
      return 'allowed';
    case 'same-site':
    case 'cross-site':
      return origin.length === 1 && trusted.has(origin[0]) ? 'allowed' : 'fetch-site';
    default:
      return 'fetch-site';
  }
}

/** Undefined is an objection: scheme, host and port all count, and `null` is no origin of ours. */
function judgeOrigin(
  origins: readonly string[],
  own: string | undefined,
  trusted: ReadonlySet<string>,
): 'same-origin' | 'allowed' | undefined {
  if (origins.length !== 1 || !isOrigin(origins[0])) return undefined;
  if (origins[0] === own) return 'same-origin';
  return trusted.has(origins[0]) ? 'allowed' : undefined;
}

/** What there is to go by in a WebSocket's handshake; of a header, all the values that came. */
export interface HandshakeEvidence extends Pick<CsrfEvidence, 'fetchSite' | 'origin' | 'own'> {
  /** Whether the session's cookie is Secure. */
  readonly secure: boolean;
}

/**
 * Why a WebSocket's handshake is refused, or undefined if it may pass.
 *
 * Every browser sends `Origin` with it (RFC 6455 §10.2), Firefox `Sec-Fetch-Site` too. A page of our own that came
 * over plain HTTP has no part in a session whose cookie is Secure: anybody on the way could have written it.
 */
export function handshakeRefusal(
  { fetchSite, origin, own, secure }: HandshakeEvidence,
  trusted: ReadonlySet<string>,
): CsrfRefusal | undefined {
  if (origin.length !== 1 || !isOrigin(origin[0])) return 'origin';
  if (trusted.has(origin[0])) return undefined;
  if (secure && origin[0].startsWith('http:')) return 'origin';
  const proof = claims(fetchSite) ? judgeFetchSite(fetchSite, origin, trusted) : 'nothing';
  if (proof === 'same-origin') return undefined;
  if (proof === 'fetch-site') return proof;
  return origin[0] === own ? undefined : 'origin';
}

/** Whether a header says anything; an empty one does not. */
function claims(values: readonly string[]): boolean {
  return values.length > 1 || (values.length === 1 && values[0] !== '');
}
