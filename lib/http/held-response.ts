import type { ServerResponse } from 'node:http';
import type { Step } from './response-step.js';

interface TakenStep {
  readonly step: Step;
  readonly args: unknown[];
}

type Listener = ((...args: unknown[]) => void) & { readonly listener?: unknown };
type Method = (...args: unknown[]) => unknown;

/**
 * A response that waits for a save, as everybody else sees it: under way. Its steps are kept, its headers cannot be
 * changed, nobody answers a second time, and whoever writes is asked to wait for 'drain'.
 */
export class HeldResponse {
  /** True if headers had left before. */
  readonly headersLeft: boolean;
  readonly #response: ServerResponse;
  readonly #statusCode: number;
  #bytes = 0;
  readonly #steps: TakenStep[] = [];
  /** Those who began to wait for 'drain' meanwhile: wrappers such as compression pass them on to a stream of theirs. */
  readonly #waiting: Listener[] = [];
  readonly #restore: (() => void)[] = [];

  constructor(response: ServerResponse) {
    this.#response = response;
    this.headersLeft = response.headersSent;
    this.#statusCode = response.statusCode;
    this.#showAs('headersSent', () => true);
    this.#showAs('writableEnded', () => this.#steps.some(({ step }) => step === 'end'));
    this.#showAs('writableNeedDrain', () => this.#bytes >= response.writableHighWaterMark);
    for (const name of ['setHeader', 'appendHeader', 'removeHeader'] as const) {
      this.#replace(name, () => {
        throw alreadySent();
      });
    }
    for (const name of ['on', 'addListener'] as const) {
      this.#replace(name, (original, args) => {
        const [event, listener] = args as [string, Listener];
        if (event === 'drain') this.#waiting.push(listener);
        return original.apply(response, args);
      });
    }
    for (const name of ['off', 'removeListener'] as const) {
      this.#replace(name, (original, args) => {
        // once() wraps its listener, and says which one it is.
        const at = this.#waiting.findIndex((one) => one === args[1] || one.listener === args[1]);
        if (args[0] === 'drain' && at >= 0) this.#waiting.splice(at, 1);
        return original.apply(response, args);
      });
    }
  }

  take(step: Step, args: unknown[]): unknown {
    if (step === 'writeHead' && (this.headersLeft || this.#steps.length > 0)) throw alreadySent();
    if (this.#steps.at(-1)?.step === 'end') {
      tellCallback(args, afterEnd());
      return step === 'write' ? false : this.#response;
    }
    this.#steps.push({ step, args });
    if (step !== 'write') return this.#response;
    this.#bytes += Buffer.byteLength(args[0] as string | Uint8Array);
    // As Node's own answer. What is more than this fills whatever buffer comes next, whose 'drain' is then a real one.
    return this.#bytes < this.#response.writableHighWaterMark;
  }

  /** Shows the response as it is again. Answers the steps that were taken. */
  release(): TakenStep[] {
    for (const restore of this.#restore.splice(0)) restore();
    // Whoever has changed it since would have come too late without us.
    if (!this.headersLeft) this.#response.statusCode = this.#statusCode;
    return this.#steps.splice(0);
  }

  /** Tells those who wait for 'drain' that they may go on; those who are no listeners of the response one by one. */
  drain(): void {
    const told = new Set<unknown>(this.#response.rawListeners('drain'));
    this.#response.emit('drain');
    for (const listener of this.#waiting) if (!told.has(listener)) listener.call(this.#response);
  }

  #showAs(name: 'headersSent' | 'writableEnded' | 'writableNeedDrain', get: () => boolean): void {
    this.#define(name, { get });
  }

  #replace(
    name: keyof ServerResponse & string,
    replacement: (original: Method, args: unknown[]) => unknown,
  ): void {
    const original = this.#response[name] as Method;
    let isHeld = true;
    this.#restore.push(() => (isHeld = false));
    // A neighbour that wraps this one while the response is held goes on with the original.
    this.#define(name, {
      writable: true,
      value: (...args: unknown[]) =>
        isHeld ? replacement(original, args) : original.apply(this.#response, args),
    });
  }

  /** Defines a property for as long as the response is held. The one before comes back, unless somebody has put another there. */
  #define(name: string, descriptor: PropertyDescriptor): void {
    const response = this.#response;
    const before = Object.getOwnPropertyDescriptor(response, name);
    Object.defineProperty(response, name, { configurable: true, enumerable: false, ...descriptor });
    this.#restore.push(() => {
      const now = Object.getOwnPropertyDescriptor(response, name);
      if (now?.value !== descriptor.value || now?.get !== descriptor.get) return;
      if (before) Object.defineProperty(response, name, before);
      else Reflect.deleteProperty(response, name);
    });
  }
}

/** Whoever waits for a step to be done learns that it never will be. */
export function tellCallback(args: readonly unknown[], error: unknown): void {
  const callback = args.at(-1);
  if (typeof callback === 'function') process.nextTick(callback, error);
}

/** As Node's own errors for the same mistakes. */
function afterEnd(): Error {
  return Object.assign(new Error('write after end'), { code: 'ERR_STREAM_WRITE_AFTER_END' });
}

function alreadySent(): Error {
  const error = new Error(
    'Cannot change the response: it has been handed over and waits for the session store.',
  );
  return Object.assign(error, { code: 'ERR_HTTP_HEADERS_SENT' });
}
