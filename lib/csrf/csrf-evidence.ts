import { type HttpRequest, isHttps } from '../http/request-context.js';
import { originOfHost } from './csrf-decision.js';

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
  const raw = (request.raw ?? request) as { headersDistinct?: Record<string, string[] | undefined> };
  const value = request.headers[name];
  return raw.headersDistinct?.[name] ?? (value === undefined ? [] : [value].flat());
}

/** Scheme and host as the adapter sees them, trusted proxies included. */
export function ownOrigin(request: HttpRequest): string | undefined {
  return originOfHost(isHttps(request) ? 'https' : 'http', request.host ?? request.headers.host);
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
