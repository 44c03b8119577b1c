import type { SessionRecord } from '../stores/session-store.js';
import { LOGIN_AGENT, LOGIN_IP } from './field-names.js';
import { type LifetimeRules, timesOf } from './lifetime.js';

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

/** A record as it is listed. */
export function infoOf(id: string, record: SessionRecord, rules: LifetimeRules): SessionInfo {
  const { userId, fields } = record;
  const times = timesOf(rules, record);
  return {
    id,
    userId,
    createdAt: new Date(times.createdAt),
    lastAccessedAt: new Date(times.lastAccessedAt),
    expiresAt: new Date(times.expiresAt),
    userAgent: text(fields.get(LOGIN_AGENT)),
    ip: text(fields.get(LOGIN_IP)),
  };
}

function text(json: string | undefined): string | undefined {
  return json === undefined ? undefined : (JSON.parse(json) as string);
}
