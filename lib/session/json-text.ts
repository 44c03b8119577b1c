import { SessionValueError } from '../errors.js';

/** Deeper values are refused: no cart is, and `JSON.stringify` overflows the stack near 5000. */
export const MAX_DEPTH = 64;

/**
 * The JSON text of a session value. What JSON would change or lose on the way (a Date, a Map, NaN, undefined in
 * an array, …) is a {@link SessionValueError} that names the key and the path.
 */
export function encode(value: unknown, key: string): string {
  try {
    if (typeof value !== 'string') check(value, key, []);
    return JSON.stringify(value);
  } catch (error) {
    if (error instanceof SessionValueError) throw error;
    throw new SessionValueError(key, pathTo(key, []), `reading it failed with: ${String(error)}`);
  }
}

function check(value: unknown, key: string, path: (string | number)[]): void {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return;
    case 'number':
      if (!Number.isFinite(value)) refuse(key, path, `${value} is not a JSON value.`);
      return;
    case 'object':
      if (value !== null) checkObject(value, key, path);
      return;
    case 'bigint':
      return refuse(key, path, 'a BigInt is not a JSON value. Store String(value) instead.');
    default:
      refuse(key, path, `${typeof value} is not a JSON value.`);
  }
}

function checkObject(value: object, key: string, path: (string | number)[]): void {
  if (path.length >= MAX_DEPTH) {
    refuse(key, path.slice(0, 4), `it is nested more than ${MAX_DEPTH} levels deep, or contains itself.`);
  }
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) checkMember(value, index, key, path);
    return;
  }
  if (!isPlain(value)) {
    const { name } = value.constructor ?? {};
    const instead =
      value instanceof Date ? ' Store date.toISOString() instead.' : ' Store plain data instead.';
    refuse(key, path, `a ${name || 'class instance'} is not a JSON value.${instead}`);
  }
  for (const name of Object.keys(value)) {
    // JSON leaves out a property whose value is undefined, which is what an optional property means.
    checkMember(value, name, key, path, true);
  }
}

function checkMember(
  holder: object,
  name: string | number,
  key: string,
  path: (string | number)[],
  optional = false,
): void {
  path.push(name);
  let value: unknown;
  try {
    value = (holder as Record<string | number, unknown>)[name];
  } catch (error) {
    refuse(key, path, `its getter threw: ${String(error)}`);
  }
  if (!(optional && value === undefined)) check(value, key, path);
  path.pop();
}

/** An object literal of any realm: its prototype is null or the root of a prototype chain. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function refuse(key: string, path: readonly (string | number)[], problem: string): never {
  throw new SessionValueError(key, pathTo(key, path), problem);
}

/** `cart.items[2]`, and `["odd name"]` where a dot would not do. */
function pathTo(key: string, path: readonly (string | number)[]): string {
  return [key, ...path]
    .map((step, index) => {
      if (typeof step === 'number') return `[${step}]`;
      if (index === 0) return /^[\w$.]+$/.test(step) ? step : JSON.stringify(step);
      return /^[A-Za-z_$][\w$]*$/.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`;
    })
    .join('');
}
