import type { KeyRing } from '../crypto/key-ring.js';
import type { SessionCookie } from '../http/session-cookie.js';
import { sha256 } from '../util/sha256.js';
import type { SessionRecord, SessionStore } from './session-store.js';

/** Who a session is: the secret that only the cookie carries, and the id that everything else sees. */
export interface Identity {
  readonly secret: string;
  /** SHA-256 of the secret's text, lower-case hex. */
  readonly id: string;
}

/** An identity that came in a cookie. */
export interface Verified extends Identity {
  /** The way it came. */
  readonly travel: SessionTravel;
  /** True if the cookie is not as it would be written today. */
  readonly outdated: boolean;
}

/** The reason why a cookie led nowhere. */
export type Refusal = 'malformed' | 'signature' | 'duplicate';

/**
 * How a session gets from one request of its browser to the next: by reference, as a signed secret (`SignedId`), or by
 * value, as the whole record, sealed (`SealedCookie`). `TravelInUse` chooses between them; nobody else asks which it is.
 */
export interface SessionTravel {
  /** True if every write needs a cookie, because the session is in its cookie and nowhere else. */
  readonly writesNeedCookie: boolean;
  /** True if an end holds only where the browser forgets its cookie. */
  readonly endNeedsCookie: boolean;
  /** True if sessions that the store does not hold can be revoked all the same. */
  readonly revokesUnseen: boolean;
  /** What whoever runs the application has to know. */
  readonly warnings?: readonly string[];

  /**
   * The identity in a cookie, or why there is none. Undefined if its value has not the shape of those that travel this
   * way.
   *
   * @param header the Cookie header: `value` may go on in other cookies.
   */
  read(name: string, value: string, header: string): Verified | Refusal | undefined;

  /**
   * The values that say who the session is, one for each cookie: none if nothing is to be said, because it has ended.
   * Undefined if it cannot travel this way.
   *
   * @param record makes the whole of it, for the travel in use: of the others each has only what its store holds.
   */
  values(
    name: string,
    identity: Identity,
    record: (() => SessionRecord) | undefined,
  ): readonly string[] | undefined;

  /** Puts a session back into a store that may have forgotten it while a request went on. */
  restore?(session: Whole): void;

  /** Throws `SessionStoreUnsupportedError` if no session can be found or revoked by its id alone. */
  require?(power: 'find' | 'revoke'): void;
}

/** A session that somebody has all of. */
export interface Whole {
  readonly id: string;
  /** All of it, as it was last saved. */
  record(): SessionRecord;
}

/** What a travel has to know of the application. Times are in milliseconds. */
export interface TravelRules {
  readonly keys: KeyRing;
  readonly cookie: SessionCookie;
  readonly clock: () => number;
  readonly maxAge: number;
  readonly absoluteMaxAge: number;
  readonly idBytes: number;
}

/** The key under which a store has its own way for sessions to travel; those of all others travel by reference. */
export const TRAVEL = Symbol('travel');

/** A store whose sessions travel in a way of its own. */
export interface TravellingStore extends SessionStore {
  [TRAVEL](rules: TravelRules): SessionTravel;
}

/** The id that stands for a secret wherever anyone may see it. */
export function publicId(secret: string): string {
  return sha256(secret);
}
