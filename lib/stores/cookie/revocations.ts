import { SessionConfigurationError } from '../../errors.js';
import type { SessionStore } from '../session-store.js';

/** Throws `SessionConfigurationError` for a store that evicts the ids of ended sessions. */
export function requireDurable(revocations: SessionStore | undefined): void {
  if (revocations?.maxSessions === undefined || revocations.maxSessions === Infinity) return;
  throw new SessionConfigurationError(
    'CookieStore revocations',
    `a MemoryStore with maxSessions (${revocations.maxSessions}) forgets ended sessions when others end, and their ` +
      'cookies work again; use a store that evicts nothing, such as FileStore or RedisStore',
  );
}

/** Warnings about revocations that are missing, or are lost when the process ends. */
export function warningsOf(revocations: SessionStore | undefined): readonly string[] {
  if (!revocations) {
    return [
      'CookieStore has no revocations: a copy of a session cookie made before the logout is accepted after it, ' +
        'until it expires. new CookieStore({ revocations: aStore }) keeps the ids of ended sessions in any other store.',
    ];
  }
  if (revocations.maxSessions === undefined) return [];
  return [
    'CookieStore revocations: a MemoryStore forgets the ended sessions when this process ends, and other processes ' +
      'never know them. A copy of a session cookie made before the logout is then accepted again, until it expires. ' +
      'Use a store that is durable and shared, such as FileStore or RedisStore.',
  ];
}
