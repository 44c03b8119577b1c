import { SessionConfigurationError } from '../../errors.js';
import type { SessionStore } from '../session-store.js';

/** Throws `SessionConfigurationError` for revocations that forget ended sessions while others end. */
export function requireDurable(revocations: SessionStore | undefined): void {
  if (revocations?.maxSessions === undefined || revocations.maxSessions === Infinity) return;
  throw new SessionConfigurationError(
    'CookieStore revocations',
    `a MemoryStore with maxSessions (${revocations.maxSessions}) forgets ended sessions when others end, and their ` +
      'cookies work again; use a store that evicts nothing, such as FileStore or RedisStore',
  );
}

/** What the revocations of a `CookieStore`, or the lack of them, let pass. */
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
      'never know of them. A copy of a session cookie made before the logout is accepted again then, until it ' +
      'expires. Use a store that is durable and shared, such as FileStore or RedisStore.',
  ];
}
