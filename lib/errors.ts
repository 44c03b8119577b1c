import { HttpException, HttpStatus } from '@nestjs/common';
import { inspect } from 'node:util';

/**
 * An option or environment variable that cannot be used; thrown at boot.
 *
 * `option` names it; the message says what it got and what it takes. Secrets are described, never printed.
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

  /** The usual problem: `got` is not what the option `takes`. */
  static value(option: string, got: unknown, takes: string): SessionConfigurationError {
    const shown = inspect(got, { depth: 0, breakLength: Infinity, maxStringLength: 80 });
    return new SessionConfigurationError(option, `got ${shown}, but it takes ${takes}`);
  }
}

/**
 * The store rejected or did not answer within `storeTimeout`: HTTP 503. `cause` is the store's own error, which is
 * logged and which the client is told nothing about.
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

/** A store was asked for something it cannot do, such as counting; the message names the store and the power. */
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

/** A session is larger than its store can keep; `key` is the one that takes up most. Nothing of it was saved. */
export class SessionTooLargeError extends Error {
  readonly code = 'E_SESSION_TOO_LARGE';
  override readonly name = 'SessionTooLargeError';

  constructor(
    readonly key: string,
    /** Bytes, as it would have been kept. */
    readonly size: number,
    /** Bytes that can be kept. */
    readonly limit: number,
    remedy: string,
  ) {
    super(
      `The session would take ${size} bytes, and there is room for ${limit}. Its largest key is ${key}. ${remedy}`,
    );
  }
}

/** A value that JSON cannot hold. `key` is the session key, `path` leads to the value inside it. */
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
    super(`There is no live session with the id ${id}. find() answers undefined instead of throwing.`);
  }
}

/** The session was used where it cannot be: no request, no module, or headers that have left already. */
export class SessionUsageError extends Error {
  readonly code = 'E_SESSION_USAGE';
  override readonly name = 'SessionUsageError';
}
