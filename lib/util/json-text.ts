import { types } from 'node:util';
import { SessionValueError } from '../errors.js';

/** Deeper values are refused: no cart is, and `JSON.stringify` overflows the stack near 5000. */
export const MAX_DEPTH = 64;

/**
 * The JSON text of a session value. What JSON would change or lose on the way (a Date, a Map, NaN, undefined in an
 * array, an accessor, a symbol key, a property of an array, a `toJSON`) is a {@link SessionValueError} that names the
 * key and the path.
 */
export function encode(value: unknown, key: string): string {
  try {
    if (typeof value !== 'string') check(value, key, []);
    const text = JSON.stringify(value) as string | undefined;
    if (text !== undefined) return text;
  } catch (error) {
    if (error instanceof SessionValueError) throw error;
    throw new SessionValueError(key, pathTo(key, []), `reading it failed with: ${String(error)}`);
  }
  // Nothing that passed the check is known to come here.
  throw new SessionValueError(key, pathTo(key, []), 'JSON has no text for it.');
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
  const isArray = Array.isArray(value);
  if (!isPlain(value, isArray)) {
    const { name } = value.constructor ?? {};
    const instead =
      value instanceof Date ? ' Store date.toISOString() instead.' : ' Store plain data instead.';
    refuse(key, path, `a ${name || 'class instance'} is not a JSON value.${instead}`);
  }
  if (types.isProxy(value)) {
    refuse(
      key,
      path,
      'a Proxy may say something else each time it is read. Store a copy of what is behind it.',
    );
  }
  const names = Reflect.ownKeys(value);
  if (isArray) {
    // Its elements and its length; an element that is missing is found below.
    if (names.length > value.length + 1)
      refuse(key, path, 'JSON would lose the properties that are no elements.');
    for (let index = 0; index < value.length; index++) checkMember(value, index, key, path);
  } else {
    for (const name of names) checkMember(value, name, key, path);
  }
  // One that is inherited, by a change to Object.prototype.
  if (typeof (value as { toJSON?: unknown }).toJSON === 'function') {
    refuse(key, path, 'its toJSON() would put something else in its place. Store what that returns.');
  }
}

function checkMember(
  holder: object,
  name: string | number | symbol,
  key: string,
  path: (string | number)[],
): void {
  if (typeof name === 'symbol') refuse(key, path, `JSON would lose its property ${String(name)}.`);
  path.push(name);
  const property = Object.getOwnPropertyDescriptor(holder, name);
  if (property?.get ?? property?.set) {
    refuse(
      key,
      path,
      'an accessor is not a JSON value: it may say something else each time. Store what it returns.',
    );
  }
  if (property?.enumerable === false) refuse(key, path, 'it is not enumerable, so JSON would lose it.');
  // JSON leaves out a property whose value is undefined, which is what an optional property means.
  const isLeftOut = property?.value === undefined && typeof name === 'string';
  if (!isLeftOut) check(property?.value, key, path);
  path.pop();
}

/** True for an object literal or an array, of any realm: its prototype is null or one of the realm's own. */
function isPlain(value: object, isArray: boolean): boolean {
  const prototype = Object.getPrototypeOf(value) as object | null;
  if (prototype === (isArray ? Array.prototype : Object.prototype)) return true;
  if (prototype === null) return !isArray;
  const root = (isArray ? Object.getPrototypeOf(prototype) : prototype) as object | null;
  return (
    root !== null &&
    Object.getPrototypeOf(root) === null &&
    Object.hasOwn(prototype, isArray ? 'flatMap' : 'isPrototypeOf')
  );
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
