import { sha256 } from '../../util/sha256.js';

const ID = /^[0-9a-f]{64}$/;

/**
 * Every key is the prefix, 64 hexadecimal digits and a suffix that says what it is. So no key of one application is
 * also one of another's, even where one prefix is the beginning of the other.
 */
export class RedisKeys {
  readonly #prefix: string;
  /** What SCAN shows has the client's `keyPrefix` in front, which commands must not name. */
  readonly #clientPrefix: string;
  /** All sessions, where SCAN cannot list them. */
  readonly all: string;

  constructor(prefix: string, clientPrefix = '') {
    this.#prefix = prefix;
    this.#clientPrefix = clientPrefix;
    this.all = `${prefix}${'0'.repeat(64)}:all`;
  }

  /** Where a session is kept. Text that is no id has a place too, which is no session's. */
  session(id: string): string {
    return this.#prefix + (ID.test(id) ? id : sha256(`no id: ${id}`));
  }

  /** The index of a user's sessions. */
  user(userId: string): string {
    return `${this.#prefix}${sha256(userId)}:user`;
  }

  /** What SCAN is to match: all of ours, and maybe some of others. */
  get pattern(): string {
    return `${(this.#clientPrefix + this.#prefix).replace(/[*?[\]\\]/g, String.raw`\$&`)}*`;
  }

  /** Of the keys that SCAN has found, those of this store, as commands name them. */
  ours(found: string[]): string[] {
    return this.#select(found, /^[0-9a-f]{64}(:[a-z]+)?$/);
  }

  /** Of the keys that SCAN has found, those of this store's sessions. */
  sessions(found: string[]): string[] {
    return this.#select(found, ID);
  }

  #select(found: string[], shape: RegExp): string[] {
    const ahead = this.#clientPrefix + this.#prefix;
    return found
      .filter((key) => key.startsWith(ahead) && shape.test(key.slice(ahead.length)))
      .map((key) => key.slice(this.#clientPrefix.length));
  }
}
