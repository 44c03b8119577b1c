import { BoundedCache } from '../../util/bounded-cache.js';
import { Sealer } from '../../crypto/sealer.js';
import { SessionStoreUnsupportedError } from '../../errors.js';
import { chunksOf, joinChunks } from '../../http/cookie-chunks.js';
import {
  type Identity,
  publicId,
  type Refusal,
  type SessionTravel,
  type TravelRules,
  type Verified,
  type Whole,
} from '../session-travel.js';
import type { SessionRecord, SessionStore } from '../session-store.js';
import type { Held, HeldSessions } from './held-sessions.js';
import { warningsOf } from './revocations.js';
import { decodeRecord, encodeRecord, type SealedRecord } from './sealed-record.js';

/** The accepted difference between the clocks of two servers, in milliseconds. */
const SKEW = 60_000;

/** The number of cookies whose content is cached. */
const CACHED = 4096;

/** The content of a cookie. */
interface Content extends SealedRecord, Identity {
  readonly name: string;
  readonly value: string;
  readonly outdated: boolean;
}

/** A store whose sessions travel in sealed cookies. */
interface SealingStore extends SessionStore {
  /** A name that is bound into every cookie. */
  readonly audience: string;
  readonly revocations: SessionStore | undefined;
}

/**
 * Travel by value: the cookie holds the whole sealed record. A value that is too long for one cookie is split over
 * several. It is sealed before it is split, so parts of different values do not open.
 */
export class SealedCookie implements SessionTravel {
  readonly writesNeedCookie = true;
  readonly endNeedsCookie: boolean;
  readonly revokesUnseen = true;
  readonly warnings: readonly string[];
  readonly #store: SealingStore;
  readonly #held: HeldSessions;
  readonly #rules: TravelRules;
  readonly #sealer: Sealer;
  /** The content of the last cookies that were opened or sealed, so that the next request costs no decryption. */
  readonly #opened = new BoundedCache<Content>(CACHED);

  constructor(store: SealingStore, held: HeldSessions, rules: TravelRules) {
    this.endNeedsCookie = !store.revocations;
    this.warnings = warningsOf(store.revocations);
    this.#store = store;
    this.#held = held;
    this.#rules = rules;
    this.#sealer = new Sealer(rules.keys, 'session', store.audience);
  }

  read(name: string, value: string, header: string): Verified | Refusal | undefined {
    if (!value.startsWith('1.')) return undefined;
    const whole = joinChunks(header, name, value);
    if (whole === undefined) return 'malformed';
    const content = this.#contentOf(name, whole);
    if (!content) return 'signature';
    const { id, secret, savedAt, record, outdated } = content;
    const { clock, maxAge, absoluteMaxAge } = this.#rules;
    if (Math.max(savedAt, record.createdAt) > clock() + SKEW) return 'malformed';
    // The lifetimes of today, whatever they were when the cookie was sealed.
    const limited = (): SessionRecord => ({
      ...record,
      expiresAt: Math.min(record.expiresAt, savedAt + maxAge, record.createdAt + absoluteMaxAge),
    });
    this.#held.receive(id, limited, savedAt, record.expiresAt);
    return { id, secret, travel: this, outdated };
  }

  values(
    name: string,
    identity: Identity,
    record: (() => SessionRecord) | undefined,
  ): readonly string[] | undefined {
    const { id } = identity;
    if (record) {
      if (this.#held.hasEnded(id)) return [];
      if (!this.#held.get(id)) this.#held.adopt(id, record());
    }
    // Undefined: the session does not fit into cookies, and stayed in the store from which it was to be moved.
    const held = this.#held.get(id);
    return held && chunksOf(name, this.#seal(name, identity, held));
  }

  restore(session: Whole): void {
    if (!this.#held.get(session.id)) this.#held.receive(session.id, () => session.record(), 0);
  }

  require(power: 'find' | 'revoke'): void {
    if (power === 'find') throw new SessionStoreUnsupportedError(this.#store, power, OUT_OF_REACH);
    if (!this.#store.revocations) throw new SessionStoreUnsupportedError(this.#store, power, NO_REVOCATIONS);
  }

  #seal(name: string, { id, secret }: Identity, held: Held): string {
    const { record } = held;
    const savedAt = Math.max(this.#rules.clock(), held.savedAt);
    const value = this.#sealer.seal(name, encodeRecord({ secret, savedAt, record }));
    // The previous cookie is superseded; drop it from the cache.
    if (held.sealedAs) this.#opened.delete(held.sealedAs);
    held.sealedAs = endOf(value);
    this.#cache({ name, value, id, secret, savedAt, record, outdated: false });
    return value;
  }

  #contentOf(name: string, value: string): Content | undefined {
    const known = this.#opened.get(endOf(value));
    if (known?.value === value && known.name === name) return known;
    const opened = this.#sealer.open(name, value);
    const sealed = opened && decodeRecord(opened.text);
    if (!sealed) return undefined;
    return this.#cache({ ...sealed, name, value, id: publicId(sealed.secret), outdated: opened.outdated });
  }

  #cache(content: Content): Content {
    this.#opened.set(endOf(content.value), content);
    return content;
  }
}

const OUT_OF_REACH = 'Its sessions are in the browsers. Use a store on the server, such as MemoryStore.';
const NO_REVOCATIONS =
  'Give it a store for the ids of ended sessions: new CookieStore({ revocations: aStore }).';

/** The end of a sealed value, which is its authentication tag: short, and different for every value. */
function endOf(value: string): string {
  return value.slice(-22);
}
