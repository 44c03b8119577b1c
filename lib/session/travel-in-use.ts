import type { KeyRing } from '../crypto/key-ring.js';
import { chunkName, staleChunks } from '../http/cookie-chunks.js';
import { DUPLICATE, readCookie } from '../http/cookie-header.js';
import { SessionCookie } from '../http/session-cookie.js';
import type { ResolvedSessionOptions } from '../options/resolved-options.js';
import { storesIn } from '../stores/migrating.store.js';
import type { SessionRecord, SessionStore } from '../stores/session-store.js';
import {
  type Identity,
  type Refusal,
  type SessionTravel,
  TRAVEL,
  type TravellingStore,
  type TravelRules,
  type Verified,
  type Whole,
} from '../stores/session-travel.js';
import { SignedId } from './signed-id.js';

/**
 * The choice how sessions travel: as the store in use says, or by signed id where it says nothing. While sessions
 * migrate, a cookie may also have come as an earlier store says. The shape of a cookie tells which; there is no second
 * attempt.
 */
export class TravelInUse {
  readonly cookie: SessionCookie;
  readonly #rules: TravelRules;
  readonly #signedId: SignedId;
  /** How new cookies are written. */
  #current: SessionTravel;
  /** The ways that stores have of their own, that of the store in use first. */
  #ofStores: readonly SessionTravel[] = [];

  constructor(options: ResolvedSessionOptions, keys: KeyRing) {
    const { clock, maxAge, absoluteMaxAge, idBytes } = options;
    this.cookie = new SessionCookie(options);
    this.#rules = { clock, maxAge, absoluteMaxAge, idBytes, keys, cookie: this.cookie };
    this.#signedId = new SignedId(keys, idBytes);
    this.#current = this.#signedId;
  }

  /** Says which store sessions are in from now on. Throws, and changes nothing, if it cannot be used. */
  use(store: SessionStore): void {
    const stores = [...storesIn(store)].map((one) => this.#travelOf(one));
    this.#current = stores[0];
    this.#ofStores = stores.filter((travel) => travel !== this.#signedId);
  }

  /** How the sessions travel that are saved now. */
  get current(): SessionTravel {
    return this.#current;
  }

  newIdentity(): Identity {
    return this.#signedId.newIdentity();
  }

  /** Who the cookies of a request say it is; undefined if they do not speak of sessions. */
  read(header: string, secure: boolean): Verified | Refusal | undefined {
    const name = this.cookie.name(secure);
    const value = readCookie(header, name);
    if (value === undefined) return undefined;
    if (value === DUPLICATE) return 'duplicate';
    const verified = this.#read(name, value, header);
    if (typeof verified === 'string' || verified.travel === this.#current) return verified;
    return { ...verified, outdated: true };
  }

  /** The Set-Cookie lines, by name, that say who the session is; for `seconds`. */
  lines(
    identity: Identity,
    record: () => SessionRecord,
    seconds: number,
    secure: boolean,
    header: string | undefined,
  ): Map<string, string> {
    const lines = new Map<string, string>();
    const name = this.cookie.name(secure);
    const values = this.#values(name, identity, record);
    // An answer that comes late must not bring back, or put in the place of a newer one, what has ended meanwhile.
    if (values.length === 0) return lines;
    for (const [index, value] of values.entries()) {
      const part = chunkName(name, index);
      lines.set(part, this.cookie.line(value, seconds, secure, part));
    }
    return this.#withDeletions(lines, name, values.length, secure, header);
  }

  /** The lines by which a browser forgets the session. */
  deletions(secure: boolean, header: string | undefined): Map<string, string> {
    const name = this.cookie.name(secure);
    const lines = new Map([[name, this.cookie.line('', 0, secure)]]);
    return this.#withDeletions(lines, name, 1, secure, header);
  }

  /** Puts a session that came in its cookie back into the stores, which may have forgotten it while a request went on. */
  restore(cameBy: SessionTravel, session: Whole): void {
    // Of any other, what no store has any more has ended.
    if (!cameBy.writesNeedCookie) return;
    for (const travel of this.#ofStores) travel.restore?.(session);
  }

  #travelOf(store: SessionStore): SessionTravel {
    return isTravelling(store) ? store[TRAVEL](this.#rules) : this.#signedId;
  }

  #read(name: string, value: string, header: string): Verified | Refusal {
    let refusal: Refusal | undefined;
    for (const travel of this.#ofStores) {
      const verified = travel.read(name, value, header);
      if (verified === undefined) continue;
      // Two stores may write cookies of one shape, and each open only its own.
      if (verified !== 'signature') return verified;
      refusal = verified;
    }
    return refusal ?? this.#signedId.read(name, value);
  }

  #values(name: string, identity: Identity, record: () => SessionRecord): readonly string[] {
    for (const travel of this.#ofStores) {
      const values = travel.values(name, identity, travel === this.#current ? record : undefined);
      if (values) return values;
    }
    return this.#signedId.values(name, identity);
  }

  /** Adds what a browser still has of a session that took more cookies. */
  #withDeletions(
    lines: Map<string, string>,
    name: string,
    parts: number,
    secure: boolean,
    header: string | undefined,
  ): Map<string, string> {
    for (const stale of staleChunks(header, name, parts)) {
      lines.set(stale, this.cookie.line('', 0, secure, stale));
    }
    return lines;
  }
}

function isTravelling(store: SessionStore): store is TravellingStore {
  return TRAVEL in store;
}
