import type { INestApplicationContext } from '@nestjs/common';
import { encode } from '../util/json-text.js';
import type { SessionData } from '../options/session-data.js';
import { SessionRuntime } from '../session/session-runtime.js';
import { DATA, FLASH } from '../session/field-names.js';
import { newTimes } from '../session/lifetime.js';
import { userIdOf } from '../session/login.js';

/** The content of a session, for a test. */
export interface SessionSnapshot {
  /** The public id. */
  readonly id: string;
  readonly userId: string | undefined;
  readonly data: Partial<SessionData>;
  /** The flash messages that were not read yet. */
  readonly flash: Readonly<Record<string, unknown>>;
}

/** A source of session cookies: a response of supertest or of fetch, or a Cookie header. */
export type CookieSource = string | { readonly headers: object };

/**
 * Creates a session in the application's own store and returns its `Cookie` header. With the key of `auth.key` in
 * `data`, the session is logged in.
 *
 * ```ts
 * await request(app.getHttpServer()).get('/account').set('Cookie', await sessionCookie(app, { userId: 'alice' }));
 * ```
 */
export async function sessionCookie(
  app: INestApplicationContext,
  data: Partial<SessionData> = {},
): Promise<string> {
  const runtime = runtimeOf(app);
  const { store, authKey, travel } = runtime;
  const identity = travel.newIdentity();
  const fields = new Map(Object.entries(data).map(([key, value]) => [DATA + key, encode(value, key)]));
  const userId = userIdOf((data as Record<string, unknown>)[authKey]);
  const record = { ...newTimes(runtime.lifetime, runtime.now()), userId, fields };
  await store.create(identity.id, record);
  const secure = travel.cookie.isSecure(() => false);
  const lines = travel.lines(identity, () => record, 1, secure, undefined);
  return [...lines.values()].map((line) => line.split(';', 1)[0]).join('; ');
}

/**
 * Reads the session of a response's Set-Cookie headers, or of a Cookie header. Returns undefined if there is none, or
 * if it has ended. Reading consumes no flash message.
 */
export async function readSession(
  app: INestApplicationContext,
  from: CookieSource,
): Promise<SessionSnapshot | undefined> {
  const { store, travel } = runtimeOf(app);
  const header = cookiesIn(from);
  for (const secure of [true, false]) {
    const verified = travel.read(header, secure);
    if (typeof verified !== 'object') continue;
    const record = await store.load(verified.id, () => {});
    if (!record) return undefined;
    const values = (prefix: string): Record<string, unknown> =>
      Object.fromEntries(
        [...record.fields]
          .filter(([field]) => field.startsWith(prefix))
          .map(([field, text]) => [field.slice(prefix.length), JSON.parse(text)]),
      );
    return { id: verified.id, userId: record.userId, data: values(DATA), flash: values(FLASH) };
  }
  return undefined;
}

function runtimeOf(app: INestApplicationContext): SessionRuntime {
  return app.get(SessionRuntime, { strict: false });
}

/** Makes a Cookie header from any source of cookies. */
function cookiesIn(from: CookieSource): string {
  if (typeof from === 'string') return from;
  const { headers } = from as { headers: Headers | Record<string, string | string[] | undefined> };
  const lines = headers instanceof Headers ? headers.getSetCookie() : [headers['set-cookie'] ?? []].flat();
  return lines.map((line) => line.split(';', 1)[0]).join('; ');
}
