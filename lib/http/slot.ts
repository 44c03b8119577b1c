import type { ResponseHook } from './response-hook.js';

/** What is remembered with a request, or with a message of a socket. */
export interface Slot {
  /** The session that has been opened for it, or is being opened. */
  session: unknown;
  /** What its response waits for. */
  hook: ResponseHook | undefined;
  /** An exception filter answers it. */
  filtered: boolean;
}

const SLOT = Symbol('nest-session');

interface Owner {
  readonly _readableState?: object;
  [SLOT]?: Slot;
}

/**
 * A property, because a WeakMap of every request takes the garbage collector longer than all that sessions do. Not of
 * the request itself, but of the state that each stream has: Express gives its requests and responses new prototypes,
 * and V8 then needs more than a microsecond for each property that is added to one.
 */
function holderOf(owner: object): Owner {
  return ((owner as Owner)._readableState ?? owner) as Owner;
}

export function slotOf(owner: object): Slot {
  return (holderOf(owner)[SLOT] ??= { session: undefined, hook: undefined, filtered: false });
}

/** The same, if there is one. */
export function slotIn(owner: object): Slot | undefined {
  return holderOf(owner)[SLOT];
}
