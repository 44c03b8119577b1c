import { SessionValueError } from '../errors.js';
import { encode } from '../util/json-text.js';

/** What a request has changed, field by field. */
export interface FieldChanges {
  readonly set: ReadonlyMap<string, string>;
  readonly delete: readonly string[];
}

/** A field that this request has written, or has read as an object that it may change in place. */
interface Live {
  readonly value: unknown;
  /** Its text; for an object, what it was when it was read or written, which may be out of date. */
  readonly text: string | undefined;
  readonly key: string;
  /** Text that counts as unset: that of a default nobody has changed. */
  readonly unset?: string;
  /** True if it was set, not only read. */
  readonly isWritten: boolean;
}

/**
 * The fields of one session as one request sees them: the saved texts, and over them what is in use. A text is
 * parsed when it is read; changes are found by comparing texts, so that a change inside a value is one too.
 */
export class FieldSet {
  #saved: Map<string, string>;
  readonly #live = new Map<string, Live>();
  #objects = false;

  readonly #isUnknown: boolean;

  /** @param isUnknown the store could not be reached, so any field may be set: removing one is a change */
  constructor(saved: Map<string, string> = new Map(), isUnknown = false) {
    this.#saved = saved;
    this.#isUnknown = isUnknown;
  }

  /** True if a value was handed out or taken in that can change in place. */
  get holdsObjects(): boolean {
    return this.#objects;
  }

  /** The fields as they were last saved. */
  get texts(): Map<string, string> {
    return this.#saved;
  }

  /** The value of a field, or undefined; `fallback` is the text of a value to hand out when it is not set. */
  read(field: string, key: string, fallback?: string): unknown {
    const live = this.#live.get(field);
    if (live && (live.text !== undefined || fallback === undefined)) return live.value;
    const saved = live ? undefined : this.#saved.get(field);
    const text = saved ?? fallback;
    if (text === undefined) return undefined;
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) {
      this.#objects = true;
      const unset = saved === undefined ? text : undefined;
      this.#live.set(field, { value, text, key, unset, isWritten: false });
    }
    return value;
  }

  write(field: string, key: string, value: unknown): void {
    if (!field.isWellFormed()) {
      // Two such keys are one to a store that keeps UTF-8.
      throw new SessionValueError(
        key,
        JSON.stringify(key),
        'the key is no well-formed text: a surrogate has no partner.',
      );
    }
    const text = value === undefined ? undefined : encode(value, key);
    this.#live.set(field, { value, key, text, isWritten: true });
    this.#objects ||= typeof value === 'object' && value !== null;
  }

  /** Removes a field; whether it was set. */
  remove(field: string, key: string): boolean {
    const was = this.has(field);
    if (was || this.#live.has(field) || this.#isUnknown) this.write(field, key, undefined);
    return was;
  }

  /** The text of a field as it would be saved now, or undefined. */
  text(field: string): string | undefined {
    const live = this.#live.get(field);
    return live ? currentText(live) : this.#saved.get(field);
  }

  has(field: string): boolean {
    return this.text(field) !== undefined;
  }

  /** The fields that are set and start with `prefix`. */
  *names(prefix: string): Generator<string> {
    for (const field of this.#saved.keys()) {
      if (field.startsWith(prefix) && this.has(field)) yield field;
    }
    for (const field of this.#live.keys()) {
      if (field.startsWith(prefix) && !this.#saved.has(field) && this.has(field)) yield field;
    }
  }

  /** The fields of another session that holds what this request has set itself, and nothing that was saved. */
  onlyWritten(): FieldSet {
    const fields = new FieldSet();
    for (const [field, live] of this.#live) {
      if (!live.isWritten) continue;
      fields.#live.set(field, live);
      fields.#objects ||= typeof live.value === 'object' && live.value !== null;
    }
    return fields;
  }

  /** What differs from the saved texts, or undefined. Throws `SessionValueError` for a change JSON cannot hold. */
  changes(): FieldChanges | undefined {
    if (this.#live.size === 0) return undefined;
    const set = new Map<string, string>();
    const removed: string[] = [];
    for (const [field, live] of this.#live) {
      const text = currentText(live);
      if (text === undefined) {
        if (this.#saved.has(field) || this.#isUnknown) removed.push(field);
      } else if (text !== this.#saved.get(field)) {
        set.set(field, text);
      }
    }
    return set.size > 0 || removed.length > 0 ? { set, delete: removed } : undefined;
  }

  /** The changes as they are now, to {@link restore}; undefined if there are none, or one cannot be stored. */
  unsaved(): FieldChanges | undefined {
    if (this.#live.size === 0) return undefined;
    try {
      return this.changes();
    } catch {
      return undefined; // whoever saves is told
    }
  }

  restore({ set, delete: removed }: FieldChanges): void {
    for (const [field, text] of set) this.write(field, field, JSON.parse(text));
    for (const field of removed) this.write(field, field, undefined);
  }

  /** The changes have reached the store. */
  saved(changes: FieldChanges): void {
    for (const [field, text] of changes.set) this.#saved.set(field, text);
    for (const field of changes.delete) this.#saved.delete(field);
  }

  /** Back to what is saved. */
  discard(): void {
    this.#live.clear();
    this.#objects = false;
  }
}

function currentText(live: Live): string | undefined {
  const { value, text, unset } = live;
  if (typeof value !== 'object' || value === null) return text;
  const current = encode(value, live.key);
  return current === unset ? undefined : current;
}
