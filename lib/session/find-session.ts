import type { Verified } from '../crypto/session-signer.js';
import { DUPLICATE, readCookie } from '../http/cookie-header.js';
import { type HttpRequest, isHttps } from '../http/request-context.js';
import type { DeadRecord, SessionRecord } from '../stores/session-store.js';
import type { SessionRuntime } from './session-runtime.js';

/**
 * What a request's cookie led to: nothing (or a session whose time was over), a record, or a store that could not be
 * reached.
 */
export type Found =
  | { readonly status: 'new'; readonly expired: boolean }
  | { readonly status: 'stored'; readonly verified: Verified; readonly record: SessionRecord }
  | { readonly status: 'unavailable'; readonly verified: Verified; readonly error: unknown };

const NOTHING: Found = { status: 'new', expired: false };
const EXPIRED: Found = { status: 'new', expired: true };

/** Looks for the session that a request's cookie names; without a cookie no store is asked, and nothing awaited. */
export function findSession(runtime: SessionRuntime, request: HttpRequest): Found | Promise<Found> {
  const { cookie, signer } = runtime;
  const header = request.headers.cookie;
  if (!cookie.mayBeIn(header)) return NOTHING;
  const name = cookie.name(cookie.isSecure(() => isHttps(request)));
  const value = readCookie(header, name);
  if (value === undefined) return NOTHING;
  const verified = value === DUPLICATE ? 'duplicate' : signer.verify(name, value);
  if (typeof verified === 'object') return load(runtime, verified);
  runtime.emit({ type: 'rejected', reason: verified });
  return NOTHING;
}

async function load(runtime: SessionRuntime, verified: Verified): Promise<Found> {
  const { id } = verified;
  let dead: DeadRecord | undefined;
  try {
    const record = await runtime.store.load(id, (why) => (dead = why));
    if (record && record.expiresAt > runtime.now()) return { status: 'stored', verified, record };
    if (record) {
      // A store that leaves expiry to its users; ours is not one, but theirs may be.
      await runtime.store.destroy(id);
      dead = 'expired';
    }
  } catch (error) {
    if (runtime.onStoreError === 'throw') throw error;
    return { status: 'unavailable', verified, error };
  }
  if (dead === 'expired') {
    runtime.emit({ type: 'expired', id });
    return EXPIRED;
  }
  // An unknown id is never adopted.
  runtime.emit({ type: 'rejected', reason: dead ?? 'unknown', id });
  return NOTHING;
}
