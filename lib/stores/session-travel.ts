import type { KeyRing } from '../crypto/key-ring.js';
import type { SessionCookie } from '../http/session-cookie.js';
import { sha256 } from '../util/sha256.js';
import type { SessionRecord, SessionStore } from './session-store.js';

/** The secret of a session, which is in the cookie only, and the id that is made of it, which everything else uses. */
export interface Identity {
  readonly secret: string;
  /** SHA-256 of the secret, in lower-case hex. */
  readonly id: string;
}

/** An identity read from a cookie that is valid. */
export interface Verified extends Identity {
  /** The travel that read the cookie. */
  readonly travel: SessionTravel;
  /** True if a cookie written today would differ: made with an older secret, or by another travel. */
  readonly outdated: boolean;
}

/** The reason why a cookie is refused. */
export type Refusal = 'malformed' | 'signature' | 'duplicate';

/**
 * Carries a session from one request of its browser to the next: by reference, as a signed secret (`SignedId`), or by
 * value, as the whole sealed record (`SealedCookie`). Only `TravelInUse` chooses between them.
 */
export interface SessionTravel {
  /** True if every write needs a cookie, because the session is only in its cookie. */
  readonly writesNeedCookie: boolean;
  /** True if a session ends only when the browser deletes its cookie. */
  readonly endNeedsCookie: boolean;
  /** True if sessions that the store does not hold can still be revoked. */
  readonly revokesUnseen: boolean;
  /** Warnings for the operator of the application. */
  readonly warnings?: readonly string[];

  /**
   * Reads the identity in a cookie. Returns the reason if the cookie is refused; undefined if its value is of another
   * travel.
   *
   * @param header the Cookie header: the rest of `value` may be in other cookies.
   */
  read(name: string, value: string, header: string): Verified | Refusal | undefined;

  /**
   * Returns the values of the session's cookies, one for each cookie: none if the session has ended; undefined if it
   * cannot travel this way.
   *
   * @param record makes the whole record. Given to the travel in use only: the others have what their store holds.
   */
  values(
    name: string,
    identity: Identity,
    record: (() => SessionRecord) | undefined,
  ): readonly string[] | undefined;

  /** Puts a session back into a store that may have dropped it during the request. */
  restore?(session: Whole): void;

  /** Throws `SessionStoreUnsupportedError` if sessions cannot be found, or revoked, by their id alone. */
  require?(power: 'find' | 'revoke'): void;
}

/** A session whose whole record is at hand. */
export interface Whole {
  readonly id: string;
  /** The whole record, as it was last saved. */
  record(): SessionRecord;
}

/** The configuration that a travel needs. Times are in milliseconds. */
export interface TravelRules {
  readonly keys: KeyRing;
  readonly cookie: SessionCookie;
  readonly clock: () => number;
  readonly maxAge: number;
  readonly absoluteMaxAge: number;
  readonly idBytes: number;
}

/** The key of the method with which a store makes its own travel. Sessions of other stores travel by reference. */
export const TRAVEL = Symbol('travel');

/** A store with a travel of its own. */
export interface TravellingStore extends SessionStore {
  [TRAVEL](rules: TravelRules): SessionTravel;
}

/** The id of the session with this secret. The secret cannot be computed from it. */
export function publicId(secret: string): string {
  return sha256(secret);
}
