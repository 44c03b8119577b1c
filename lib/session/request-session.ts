import { SessionValueError } from '../errors.js';
import { FlashMessages } from './flash-messages.js';
import type { Session } from './session.js';
import type { SessionData } from '../options/session-data.js';
import { DATA } from './field-names.js';
import { userIdOf } from './login.js';
import type { SessionTransaction } from './session-transaction.js';

type Values = Record<string, unknown>;
/** The end of a callback-style call, as Passport makes them. */
type Callback = (error?: unknown) => void;

/** The session as handlers hold it: typed reading and writing over the request's transaction. */
export class RequestSession implements Session {
  readonly #transaction: SessionTransaction;
  readonly #authKey: string;
  readonly #loadDefaults: () => ReadonlyMap<string, string>;
  #defaults: ReadonlyMap<string, string> | undefined;
  #flash: FlashMessages | undefined;

  constructor(
    transaction: SessionTransaction,
    rules: { readonly authKey: string; readonly defaults: () => ReadonlyMap<string, string> },
  ) {
    this.#transaction = transaction;
    this.#authKey = rules.authKey;
    this.#loadDefaults = rules.defaults;
    // `request.session.views = 1`, as express-session has it, would be lost: it throws instead.
    Object.preventExtensions(this);
  }

  /** @internal The transaction behind a session. */
  static transactionOf(session: RequestSession): SessionTransaction {
    return session.#transaction;
  }

  /** @internal */
  isOfSameModule(other: RequestSession): boolean {
    return this.#transaction.runtime === other.#transaction.runtime;
  }

  get id(): string {
    this.#transaction.use();
    return this.#transaction.id;
  }

  get isNew(): boolean {
    this.#transaction.use();
    return this.#transaction.status === 'new';
  }

  get isModified(): boolean {
    this.#transaction.use();
    return this.#transaction.isModified;
  }

  get createdAt(): Date {
    this.#transaction.use();
    return new Date(this.#transaction.times.createdAt);
  }

  get lastAccessedAt(): Date {
    this.#transaction.use();
    return new Date(this.#transaction.times.lastAccessedAt);
  }

  get expiresAt(): Date {
    this.#transaction.use();
    return new Date(this.#transaction.times.expiresAt);
  }

  get userId(): string | undefined {
    return userIdOf(this.#read(this.#authKey));
  }

  get data(): Readonly<Partial<SessionData>> {
    const data = Object.create(null) as Values;
    const fields = this.#transaction.use();
    for (const [key, text] of this.#defaultTexts) data[key] = JSON.parse(fields.text(fieldOf(key)) ?? text);
    for (const key of this.keys()) data[key] ??= JSON.parse(fields.text(fieldOf(key)) as string);
    return data;
  }

  get<K extends keyof SessionData>(key: K): SessionData[K] | undefined;
  get<K extends keyof SessionData>(
    key: K,
    fallback: Exclude<SessionData[K], undefined>,
  ): Exclude<SessionData[K], undefined>;
  get(key: string, fallback?: unknown): unknown {
    const value = this.#read(key);
    return value === undefined ? fallback : value;
  }

  set(key: string, value: unknown): this {
    this.#transaction.change().write(fieldOf(key), key, value);
    return this;
  }

  update(patch: Values | ((data: Values) => Values)): this {
    const values = typeof patch === 'function' ? patch(this.data as Values) : patch;
    for (const [key, value] of Object.entries(values)) this.set(key, value);
    return this;
  }

  has(key: string): boolean {
    return this.#transaction.use().has(fieldOf(key));
  }

  delete(key: string): boolean {
    return this.#transaction.change().remove(fieldOf(key), key);
  }

  pull<K extends keyof SessionData>(key: K): SessionData[K] | undefined {
    const value = this.#read(key);
    this.delete(key);
    return value as SessionData[K] | undefined;
  }

  increment(key: string, by = 1): number {
    const value = this.#read(key) ?? 0;
    if (typeof value !== 'number') {
      throw new SessionValueError(key, key, `increment() needs a number there, not a ${typeof value}.`);
    }
    this.set(key, value + by);
    return value + by;
  }

  keys(): string[] {
    return Array.from(this.#transaction.use().names(DATA), (field) => field.slice(DATA.length));
  }

  clear(): this {
    for (const key of this.keys()) this.delete(key);
    // Of a session that could not be loaded the keys are not known.
    this.delete(this.#authKey);
    return this;
  }

  get flash(): FlashMessages {
    return (this.#flash ??= new FlashMessages(this.#transaction));
  }

  login(userId: string, data: Values = {}): Promise<void> {
    if (userIdOf(userId) === undefined) {
      const problem = `login() takes the user's id, a string that is not empty, and got ${String(userId) || "''"}.`;
      return this.#transaction.saving.refuse(new SessionValueError(this.#authKey, this.#authKey, problem));
    }
    return this.#transaction.login(userId, () => this.update(data).set(this.#authKey, userId));
  }

  logout(): Promise<void> {
    return this.invalidate();
  }

  /** With a callback, as Passport calls it, the new session starts empty, which is what Passport counts on. */
  regenerate(callback?: Callback): Promise<void> {
    return settled(this.#transaction.regenerate(callback !== undefined), callback);
  }

  invalidate(): Promise<void> {
    return this.#transaction.invalidate();
  }

  touch(): void {
    this.#transaction.touch();
  }

  save(callback?: Callback): Promise<void> {
    return settled(this.#transaction.commit(), callback);
  }

  /** Where Passport keeps the user it serialised: an ordinary key, `passport`. */
  get passport(): unknown {
    return this.#read('passport');
  }

  set passport(value: unknown) {
    this.set('passport', value);
  }

  /** The data, and nothing that could be used as a credential. */
  toJSON(): Readonly<Partial<SessionData>> {
    return this.data;
  }

  get #defaultTexts(): ReadonlyMap<string, string> {
    return (this.#defaults ??= this.#loadDefaults());
  }

  #read(key: string): unknown {
    return this.#transaction.use().read(fieldOf(key), key, this.#defaultTexts.get(key));
  }
}

function fieldOf(key: string): string {
  if (typeof key !== 'string') throw new TypeError(`A session key is a string, not a ${typeof key}.`);
  return DATA + key;
}

/** A promise for everyone, and a callback for those who bring one. */
function settled(promise: Promise<void>, callback: Callback | undefined): Promise<void> {
  return callback ? promise.then(() => callback(), callback) : promise;
}
