import { SessionConfigurationError } from '../errors.js';

/** An RFC 9110 §5.6.2 token, such as the name of a cookie. */
export const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Returns text that matches `shape`; throws {@link SessionConfigurationError} for any other value. */
export function text(value: unknown, option: string, shape: RegExp, takes: string): string {
  if (typeof value === 'string' && shape.test(value)) return value;
  throw SessionConfigurationError.value(option, value, takes);
}

/** Returns one of the `accepted` values; throws {@link SessionConfigurationError} for any other value. */
export function oneOf<const T>(value: unknown, option: string, accepted: readonly T[]): T {
  if (accepted.includes(value as T)) return value as T;
  const names = accepted.map((one) => (typeof one === 'string' ? `'${one}'` : String(one)));
  throw SessionConfigurationError.value(option, value, `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`);
}

/**
 * Returns a section of the options, `{}` when left out. Throws {@link SessionConfigurationError} for a name that is not
 * `known`: most likely a typo.
 */
export function section<T extends object>(
  given: T | undefined,
  path: string,
  known: readonly string[],
): Partial<T> {
  if (given === undefined) return {};
  if (typeof given !== 'object' || given === null) {
    throw SessionConfigurationError.value(path || 'forRoot', given, 'an object');
  }
  for (const name of Object.keys(given)) {
    if (!known.includes(name)) {
      const option = path ? `${path}.${name}` : name;
      throw new SessionConfigurationError(option, `there is no such option, only ${known.join(', ')}`);
    }
  }
  return given;
}
