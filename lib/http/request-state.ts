import type { ServerResponse } from 'node:http';
import type { StepTaker } from './response-step.js';

/** A session of a request: whose it is, and the session itself, or the promise of it while it is loaded. */
interface OpenedSession {
  /** The `SessionRuntime` it belongs to. A request has one session of each. */
  readonly key: object;
  session: unknown;
}

/** Everything the library remembers with one request, or with one message of a socket. */
export class RequestState {
  /** In the order of their opening; nearly always one. */
  readonly #opened: OpenedSession[] = [];
  /** Holds the response until its sessions are saved. Absent until a session is used. */
  hook: StepTaker | undefined;
  /** Fastify: the response that belongs to the bare request. */
  response: ServerResponse | undefined;

  /** The session under `key`, or undefined. */
  session(key: object): unknown {
    for (const opened of this.#opened) if (opened.key === key) return opened.session;
    return undefined;
  }

  /** The session that was opened first, or undefined: the one that `request.session` and `@Session()` mean. */
  get firstSession(): unknown {
    return this.#opened[0]?.session;
  }

  /** Replaces what is remembered under `key`. */
  remember(key: object, session: unknown): void {
    for (const opened of this.#opened) {
      if (opened.key !== key) continue;
      opened.session = session;
      return;
    }
    this.#opened.push({ key, session });
  }
}

/**
 * A property, not a WeakMap: a WeakMap entry for each request costs the garbage collector more than all else here. It is
 * defined and not assigned: V8 makes a slow dictionary of Express's requests for an assignment to a symbol.
 */
const STATE = Symbol('nest-session');

type Stateful = { readonly [STATE]?: RequestState };

/** The state of a request, made when it is first asked for. `owner` is Node's own request, or a message's arguments. */
export function stateOf(owner: object): RequestState {
  const known = (owner as Stateful)[STATE];
  if (known) return known;
  const state = new RequestState();
  Object.defineProperty(owner, STATE, { value: state });
  return state;
}

/** The state of a request, if it has one. */
export function stateIn(owner: object): RequestState | undefined {
  return (owner as Stateful)[STATE];
}
