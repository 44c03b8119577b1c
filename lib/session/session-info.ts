import type { HttpRequest } from '../http/request-context.js';
import type { SessionRecord } from '../stores/session-store.js';

/** A session as it is listed: who, since when, until when, and from where. Nothing in it works as a cookie. */
export interface SessionInfo {
  /** The public id, to revoke by. */
  readonly id: string;
  readonly userId?: string;
  readonly createdAt: Date;
  /** The last use, to within a tenth of `maxAge`. */
  readonly lastAccessedAt: Date;
  readonly expiresAt: Date;
  /** The User-Agent header of the login, at most 256 characters. */
  readonly userAgent?: string;
  /** The client's address at login, by the adapter's own trusted-proxy rules. */
  readonly ip?: string;
}

/** The fields that remember a login; a login as somebody else writes them anew. */
const AT = 'login:at';
const AGENT = 'login:userAgent';
const IP = 'login:ip';

/** As much of a User-Agent as is kept; the header is the client's to choose. */
const AGENT_LENGTH = 256;

/** What is remembered of the request that logs in. */
export function loginFields(request: HttpRequest, now: number): readonly (readonly [string, unknown])[] {
  const agent = request.headers['user-agent'];
  return [
    [AT, now],
    [AGENT, agent === undefined ? undefined : agent.slice(0, AGENT_LENGTH)],
    [IP, request.ip ?? request.socket?.remoteAddress],
  ];
}

/** When the user of a session logged in, in milliseconds since the epoch. */
export function loggedInAt({ fields, createdAt }: SessionRecord): number {
  return Number(fields.get(AT) ?? createdAt);
}

export function infoOf(
  id: string,
  { userId, fields }: SessionRecord,
  times: { readonly createdAt: number; readonly lastAccessedAt: number; readonly expiresAt: number },
): SessionInfo {
  return {
    id,
    userId,
    createdAt: new Date(times.createdAt),
    lastAccessedAt: new Date(times.lastAccessedAt),
    expiresAt: new Date(times.expiresAt),
    userAgent: text(fields.get(AGENT)),
    ip: text(fields.get(IP)),
  };
}

function text(json: string | undefined): string | undefined {
  return json === undefined ? undefined : (JSON.parse(json) as string);
}
