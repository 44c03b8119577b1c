import { encode } from '../util/json-text.js';
import { FLASH } from './field-names.js';
import type { FieldSet } from './session-fields.js';

/** What flash messages need of the session they belong to. */
interface Host {
  /** The fields of the session, to be read. */
  use(): FieldSet;
  /** The fields of the session, to be changed. */
  change(): FieldSet;
}

/**
 * Messages for the next page, kept apart from the session's data: each lives until it is read once, across
 * redirects and whatever other requests come in between.
 */
export class FlashMessages {
  readonly #host: Host;
  readonly #now = new Map<string, unknown>();
  readonly #read = new Map<string, unknown>();

  /** @internal */
  constructor(host: Host) {
    this.#host = host;
  }

  /** Leaves a message: any JSON value; anything else is a `SessionValueError`. */
  set(key: string, value: unknown): this {
    this.#host.change().write(FLASH + key, `flash.${key}`, value);
    return this;
  }

  /** Takes a message: it is handed out once. */
  get<V>(key: string): V | undefined {
    const fields = this.#host.use();
    if (this.#now.has(key)) {
      const value = this.#now.get(key);
      this.#now.delete(key);
      return value as V;
    }
    const value = fields.read(FLASH + key, `flash.${key}`);
    if (value !== undefined) {
      this.#host.change().remove(FLASH + key, `flash.${key}`);
      this.#read.set(key, value);
    }
    return value as V | undefined;
  }

  /** Looks at a message and leaves it where it is. */
  peek<V>(key: string): V | undefined {
    const fields = this.#host.use();
    const value = this.#now.has(key) ? this.#now.get(key) : fields.read(FLASH + key, `flash.${key}`);
    return value as V | undefined;
  }

  has(key: string): boolean {
    return this.#host.use().has(FLASH + key) || this.#now.has(key);
  }

  /** Takes every message. */
  all(): Record<string, unknown> {
    const fields = this.#host.use();
    const keys = new Set([...fields.names(FLASH)].map((field) => field.slice(FLASH.length)));
    for (const key of this.#now.keys()) keys.add(key);
    const messages = Object.create(null) as Record<string, unknown>;
    for (const key of keys) messages[key] = this.get(key);
    return messages;
  }

  /** Leaves a message for this request only; it is never stored. */
  now(key: string, value: unknown): this {
    this.#host.use();
    this.#now.set(key, JSON.parse(encode(value, `flash.${key}`)));
    return this;
  }

  /** Puts back what this request has read, one message or all, for the next to read. */
  keep(key?: string): this {
    for (const [read, value] of this.#read) {
      if (key !== undefined && key !== read) continue;
      this.set(read, value);
      this.#read.delete(read);
    }
    return this;
  }
}
