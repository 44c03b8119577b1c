import { HttpException, HttpStatus } from '@nestjs/common';
import { inspect } from 'node:util';

/**
 * An option or environment variable cannot be used. Thrown at boot.
 *
 * `option` is its name. The message has the value that was given and the values that are accepted, but never a secret.
 */
export class SessionConfigurationError extends Error {
  readonly code = 'E_SESSION_CONFIGURATION';
  override readonly name = 'SessionConfigurationError';

  constructor(
    readonly option: string,
    problem: string,
  ) {
    super(`Session option ${option}: ${problem}.`);
  }

  /** The error for a value `got` where the option accepts only what `takes` describes. */
  static value(option: string, got: unknown, takes: string): SessionConfigurationError {
    const shown = inspect(got, { depth: 0, breakLength: Infinity, maxStringLength: 80 });
    return new SessionConfigurationError(option, `got ${shown}, but it takes ${takes}`);
  }
}

/**
 * The store failed or did not answer within `storeTimeout`: HTTP 503. `cause` is the store's own error. It is logged
 * and never sent to the client.
 */
export class SessionStoreUnavailableException extends HttpException {
  readonly code = 'E_SESSION_STORE_UNAVAILABLE';

  constructor(
    readonly operation: string,
    cause: unknown,
  ) {
    super('Service Unavailable', HttpStatus.SERVICE_UNAVAILABLE, { cause });
    this.message = 'The session store could not be reached.';
  }
}

/** A store lacks an optional method, such as `count()`. The message names the store and the method. */
export class SessionStoreUnsupportedError extends Error {
  readonly code = 'E_SESSION_STORE_UNSUPPORTED';
  override readonly name = 'SessionStoreUnsupportedError';

  constructor(
    store: object,
    power: string,
    remedy = 'Use a store that has it, such as MemoryStore, or implement it on a store of your own.',
  ) {
    super(`${store.constructor.name} has no ${power}(). ${remedy}`);
  }
}

/** A session is larger than its store can keep. `key` is its largest key. The write saved nothing. */
export class SessionTooLargeError extends Error {
  readonly code = 'E_SESSION_TOO_LARGE';
  override readonly name = 'SessionTooLargeError';

  constructor(
    readonly key: string,
    /** Size of the session in bytes, as the store would keep it. */
    readonly size: number,
    /** Largest size that the store can keep, in bytes. */
    readonly limit: number,
    remedy: string,
  ) {
    super(
      `The session would take ${size} bytes, and there is room for ${limit}. Its largest key is ${key}. ${remedy}`,
    );
  }
}

/** JSON cannot hold a value. `key` is the session key; `path` leads to the value inside it. */
export class SessionValueError extends Error {
  readonly code = 'E_SESSION_VALUE';
  override readonly name = 'SessionValueError';

  constructor(
    readonly key: string,
    readonly path: string,
    problem: string,
  ) {
    super(`Cannot store session value ${path}: ${problem}`);
  }
}

/** {@link SessionManager.get} found no live session under the id. */
export class SessionNotFoundError extends Error {
  readonly code = 'E_SESSION_NOT_FOUND';
  override readonly name = 'SessionNotFoundError';

  constructor(readonly id: string) {
    super(`There is no live session with the id ${id}. find() returns undefined instead of throwing.`);
  }
}

/** The session was used where it cannot be: no request, no module, or headers that were already sent. */
export class SessionUsageError extends Error {
  readonly code = 'E_SESSION_USAGE';
  override readonly name = 'SessionUsageError';
}
