import type { KeyRing } from '../../crypto/key-ring.js';
import { NONCE_BYTES, TAG_BYTES } from '../../crypto/xaes-256-gcm.js';
import { Remembered } from '../../crypto/remembered.js';
import { Sealer } from '../../crypto/sealer.js';
import { type Identity, publicId, SessionSigner, type Verified } from '../../session/signed-id.js';
import { DUPLICATE, readCookie } from '../../http/cookie-header.js';
import { SessionCookie } from '../../http/session-cookie.js';
import type { ResolvedSessionOptions } from '../../options/resolved-options.js';
import { CookieStore, type Held, MOST_CHUNKS } from './cookie.store.js';
import { MigratingStore } from '../migrating.store.js';
import { decodeRecord, encodeRecord, type SealedRecord } from './sealed-record.js';
import type { SessionRecord, SessionStore } from '../session-store.js';

/** Browsers drop a cookie whose name and value are longer together (RFC 6265bis §5.6). */
const LONGEST_COOKIE = 4096;
/** Clocks of two servers may differ by so much: milliseconds. */
const SKEW = 60_000;

/** How many of the last cookies to remember. */
const REMEMBERED = 4096;

/** What was sealed into a cookie, whose it is, and how it was opened. */
interface Content extends SealedRecord, Identity {
  readonly name: string;
  readonly value: string;
  readonly store: CookieStore;
  readonly outdated: boolean;
}

/** Why a cookie led nowhere. */
export type Refusal = 'malformed' | 'signature' | 'duplicate';

/**
 * How a session travels: by reference, as a signed secret (`SessionSigner`), or, with a `CookieStore`, by value, as the
 * whole record, sealed. The shape of a cookie says which of the two it is; there is no second attempt.
 *
 * What is too long for one cookie goes on in others: `name` holds the first part, `~` and the number of cookies,
 * `name.1`, `name.2`… the rest. All of it is sealed as one, so parts that do not belong together do not open.
 */
export class SessionCarrier {
  readonly cookie: SessionCookie;
  readonly signer: SessionSigner;
  readonly #keys: KeyRing;
  readonly #options: ResolvedSessionOptions;
  /** The one in use, if it is one of these. */
  #writing: CookieStore | undefined;
  /** Those that sessions may come from, each with what opens its cookies. */
  #sealers: ReadonlyMap<CookieStore, Sealer> = new Map();
  /** What was in the last cookies that were opened or sealed, so that a browser's next request costs no decryption. */
  readonly #opened = new Remembered<Content>(REMEMBERED);

  constructor(options: ResolvedSessionOptions, keys: KeyRing) {
    this.#options = options;
    this.#keys = keys;
    this.cookie = new SessionCookie(options);
    this.signer = new SessionSigner(keys, options.idBytes);
  }

  /** Says which store sessions are in from now on. */
  use(store: SessionStore): void {
    const stores = [...storesIn(store)];
    this.#writing = stores[0] instanceof CookieStore ? stores[0] : undefined;
    const inCookies = stores.filter((one) => one instanceof CookieStore);
    this.#opened.clear();
    this.#sealers = new Map(inCookies.map((one) => [one, new Sealer(this.#keys, 'session', one.audience)]));
    for (const one of inCookies) this.#attach(one);
  }

  /** The store whose sessions travel by value, if that is the one in use. */
  get byValue(): CookieStore | undefined {
    return this.#writing;
  }

  /** Who the cookies of a request say it is; undefined if they do not speak of sessions. */
  read(header: string, secure: boolean): Verified | Refusal | undefined {
    const name = this.cookie.name(secure);
    const value = readCookie(header, name);
    if (value === undefined) return undefined;
    if (value === DUPLICATE) return 'duplicate';
    if (this.#sealers.size > 0 && value.startsWith('1.')) return this.#open(header, name, value);
    const verified = this.signer.verify(name, value);
    if (typeof verified === 'string' || !this.#writing) return verified;
    return { ...verified, outdated: true };
  }

  /** A session by value that its store may have forgotten while a request went on. */
  remind(id: string, record: () => SessionRecord): void {
    for (const store of this.#sealers.keys()) if (!store.held(id)) store.admit(id, record, 0);
  }

  /** The Set-Cookie lines, by name, that say who the session is; for `seconds`. */
  lines(
    identity: Identity,
    record: () => SessionRecord,
    seconds: number,
    secure: boolean,
    header: string | undefined,
  ): Map<string, string> {
    // An answer that comes late must not bring back, or put in the place of a newer one, what has ended meanwhile.
    const { id, secret } = identity;
    if (this.#writing?.hasEnded(id)) return new Map();
    const name = this.cookie.name(secure);
    // One that was saved before the store was switched is still nowhere else.
    const store = this.#writing ?? [...this.#sealers.keys()].find((one) => one.held(id));
    if (store && !store.held(id)) store.adopt(id, record());
    // One that does not fit into cookies has stayed in the store that it was to be moved from.
    const held = store?.held(id);
    const parts = store && held ? this.#seal(store, name, identity, held) : [this.signer.sign(name, secret)];
    const lines = parts.map(
      (part, index) =>
        [nameOf(name, index), this.cookie.line(part, seconds, secure, nameOf(name, index))] as const,
    );
    return new Map([...lines, ...this.#stale(header, name, parts.length, secure)]);
  }

  /** The lines by which a browser forgets the session. */
  deletions(secure: boolean, header: string | undefined): Map<string, string> {
    const name = this.cookie.name(secure);
    return new Map([[name, this.cookie.line('', 0, secure)], ...this.#stale(header, name, 1, secure)]);
  }

  #attach(store: CookieStore): void {
    const { clock, maxAge, idBytes } = this.#options;
    const name = this.cookie.name(true);
    const room =
      store.chunks === 1
        ? LONGEST_COOKIE - name.length
        : store.chunks * (LONGEST_COOKIE - nameOf(name, 1).length) - '~3'.length;
    const sealed = room - '1.'.length - this.#keys.ids[0].length - '.'.length;
    store.attach({
      clock,
      maxAge,
      capacity: Math.floor((sealed * 3) / 4) - NONCE_BYTES - TAG_BYTES,
      secret: 'x'.repeat(Math.ceil((idBytes * 4) / 3)),
    });
  }

  #seal(store: CookieStore, name: string, { id, secret }: Identity, held: Held): string[] {
    const sealer = this.#sealers.get(store) as Sealer;
    const { record } = held;
    const savedAt = Math.max(this.#options.clock(), held.savedAt);
    const value = sealer.seal(name, encodeRecord({ secret, savedAt, record }));
    // Of a session that is being written, the cookie before this one has no next request.
    if (held.sealedAs) this.#opened.delete(held.sealedAs);
    held.sealedAs = endOf(value);
    this.#remember({ name, value, id, secret, savedAt, record, store, outdated: false });
    if (name.length + value.length <= LONGEST_COOKIE) return [value];
    const size = LONGEST_COOKIE - nameOf(name, 1).length;
    // The first cookie also says how many there are.
    const first = size - '~3'.length;
    const parts = [value.slice(0, first)];
    for (let at = first; at < value.length; at += size) parts.push(value.slice(at, at + size));
    parts[0] += `~${parts.length}`;
    return parts;
  }

  #open(header: string, name: string, value: string): Verified | Refusal {
    const whole = joined(header, name, value);
    if (whole === undefined) return 'malformed';
    const content = this.#content(name, whole);
    if (!content) return 'signature';
    const { id, secret, savedAt, record, store, outdated } = content;
    const { clock, maxAge, absoluteMaxAge } = this.#options;
    if (Math.max(savedAt, record.createdAt) > clock() + SKEW) return 'malformed';
    // The limits are those of today, whatever they were when it was sealed.
    const limited = (): SessionRecord => ({
      ...record,
      expiresAt: Math.min(record.expiresAt, savedAt + maxAge, record.createdAt + absoluteMaxAge),
    });
    store.admit(id, limited, savedAt, record.expiresAt);
    return { id, secret, outdated: outdated || store !== this.#writing, byValue: true };
  }

  #content(name: string, value: string): Content | undefined {
    const known = this.#opened.get(endOf(value));
    if (known?.value === value && known.name === name) return known;
    for (const [store, sealer] of this.#sealers) {
      const opened = sealer.open(name, value);
      const sealed = opened && decodeRecord(opened.text);
      if (!sealed) continue;
      const id = publicId(sealed.secret);
      return this.#remember({ ...sealed, name, value, id, store, outdated: opened.outdated });
    }
    return undefined;
  }

  #remember(content: Content): Content {
    this.#opened.set(endOf(content.value), content);
    return content;
  }

  /** What a browser still has of a session that was longer. */
  *#stale(
    header: string | undefined,
    name: string,
    parts: number,
    secure: boolean,
  ): Generator<[string, string]> {
    for (let index = parts; index < MOST_CHUNKS; index++) {
      const stale = nameOf(name, index);
      if (header?.includes(`${stale}=`)) yield [stale, this.cookie.line('', 0, secure, stale)];
    }
  }
}

/** The end of a sealed value, which is its authentication tag: enough to look it up by. */
function endOf(value: string): string {
  return value.slice(-22);
}

function nameOf(name: string, index: number): string {
  return index === 0 ? name : `${name}.${index}`;
}

/** The value that a request carries in as many cookies as the first one says. */
function joined(header: string, name: string, first: string): string | undefined {
  const [, start, count] = /^([^~]*)~([23])$/.exec(first) ?? [];
  if (start === undefined) return first;
  let whole = start;
  for (let index = 1; index < Number(count); index++) {
    const part = readCookie(header, nameOf(name, index));
    if (typeof part !== 'string') return undefined;
    whole += part;
  }
  return whole;
}

/** The stores behind a store, the one in use first. */
export function* storesIn(store: SessionStore): Generator<SessionStore> {
  if (!(store instanceof MigratingStore)) return yield store;
  yield* storesIn(store.to);
  yield* storesIn(store.from);
}
