import type { IncomingMessage } from 'node:http';
import { type HttpRequest, isHttps, ownerOf } from '../http/request-context.js';
import { overHttps, seenByAdapter } from '../http/seen-by-adapter.js';
import type { SessionCookie } from '../http/session-cookie.js';
import { originOfHost } from '../util/origin.js';
import type { HandshakeEvidence } from './csrf-decision.js';

/** Where a token may come from besides the body; never from the URL, and never from a cookie. */
const TOKEN_HEADERS = ['x-csrf-token', 'x-xsrf-token'] as const;

/** The method, the one an override replaced, and the one an override header asks for. */
export function methodsOf(request: HttpRequest): string[] {
  const override = request.headers['x-http-method-override'];
  return [request.method, request.originalMethod, override]
    .filter((method) => method !== undefined)
    .map(String);
}

/** Every value of a header that came. Where a server joined them, the comma is left for the decision to refuse. */
export function valuesOf(
  request: HttpRequest,
  name: 'origin' | 'referer' | 'sec-fetch-site',
): readonly string[] {
  const { headersDistinct } = ownerOf(request) as Partial<IncomingMessage>;
  if (headersDistinct) return headersDistinct[name] ?? [];
  const value = request.headers[name];
  return value === undefined ? [] : [value].flat();
}

/** Scheme and host as the adapter sees them, trusted proxies included. */
export function ownOrigin(request: HttpRequest): string | undefined {
  return originOfHost(isHttps(request) ? 'https' : 'http', request.host ?? request.headers.host);
}

/**
 * What a handshake says, by the headers that came with it. Over TLS that a proxy ends and the adapter does not know of,
 * a Secure cookie tells that our own origin is `https`.
 */
export function handshakeEvidence(request: HttpRequest, cookie: SessionCookie): HandshakeEvidence {
  const seen = seenByAdapter(ownerOf(request));
  const secure = cookie.isSecure(() => overHttps(seen));
  return {
    fetchSite: valuesOf(request, 'sec-fetch-site'),
    origin: valuesOf(request, 'origin'),
    own: originOfHost(secure || overHttps(seen) ? 'https' : 'http', seen.host),
    secure,
  };
}

/** The first place that holds anything decides, whatever it holds. */
export function tokenIn(request: HttpRequest, field: string): unknown {
  for (const name of TOKEN_HEADERS) {
    if (request.headers[name]) return request.headers[name];
  }
  const { body } = request;
  const isObject = typeof body === 'object' && body !== null && !Buffer.isBuffer(body);
  try {
    const token: unknown = isObject && Object.hasOwn(body, field) ? Reflect.get(body, field) : undefined;
    return token === '' || token === null ? undefined : token;
  } catch {
    return undefined;
  }
}

export function isUnreadMultipart({ headers, body }: HttpRequest): boolean {
  return body === undefined && /^multipart\/form-data\b/i.test(headers['content-type'] ?? '');
}
