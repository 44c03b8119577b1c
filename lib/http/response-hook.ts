import { HttpException, HttpStatus } from '@nestjs/common';
import { STATUS_CODES, type OutgoingHttpHeader, type ServerResponse } from 'node:http';
import type { LeavingHeaders } from './response-headers.js';
import { slotIn, slotOf } from './slot.js';

/** What a response has to wait for. */
export interface Passenger {
  /** Whether something waits to be saved; asked at every step of the response, so it has to be cheap. */
  pending(): boolean;
  /** Saves it. */
  settle(): Promise<void>;
  /** Saving failed: `settle()` rejected with `error`. */
  failed(error: unknown): void;
}

/** What is put on a response just before its headers leave. */
export interface Headers {
  hasHeaders(): boolean;
  /** Called again if Node refuses a head. Headers that are there already may be changed. */
  addHeaders(headers: LeavingHeaders): void;
}

type Step = 'writeHead' | 'write' | 'end' | 'flushHeaders';
type Method = (...args: unknown[]) => unknown;
type Steps = Record<Step, Method>;

const STEPS: readonly Step[] = ['writeHead', 'write', 'end', 'flushHeaders'];

/** A response's hook is remembered with its request. */
function hookOf({ req }: ServerResponse): ResponseHook | undefined {
  return slotIn(req)?.hook;
}

/** The same for all responses, since closures for each cost time. */
const ofResponses = methods((step) => {
  return function (this: ServerResponse, ...args: unknown[]) {
    return ResponseHook.take(this, step, args);
  };
});

/** What {@link hookPrototype} has put on prototypes, and what was there. */
const prototypes = new WeakMap<object, { readonly hooked: Steps; readonly original: Steps }>();

/**
 * Puts the way to the hooks on a prototype, once, instead of on each of its responses. Express gives each response a
 * prototype of the application's, after which V8 knows the shape of none: four functions on one cost it six
 * microseconds.
 */
export function hookPrototype(prototype: object): void {
  if (prototypes.has(prototype)) return;
  const original = methods((step) => (prototype as Steps)[step]);
  const hooked = methods((step) => {
    return function (this: ServerResponse, ...args: unknown[]) {
      const isHere = hookOf(this)?.isOnPrototype ?? false;
      return isHere ? ResponseHook.take(this, step, args) : original[step].apply(this, args);
    };
  });
  Object.assign(prototype, hooked);
  prototypes.set(prototype, { hooked, original });
}

function methods(make: (step: Step) => Method): Steps {
  return Object.fromEntries(STEPS.map((step) => [step, make(step)])) as Steps;
}

function hookedClose(this: ServerResponse): void {
  ResponseHook.closed(this);
}

interface Queued {
  readonly step: Step;
  readonly args: unknown[];
}

const HEADER_CHANGES = ['setHeader', 'appendHeader', 'removeHeader'] as const;
/** They describe a body that will not be sent. */
const OF_THE_BODY =
  /^(content-.*|transfer-encoding|etag|last-modified|location|cache-control|expires|accept-ranges)$/i;

/**
 * Makes a response wait for its passenger, whoever writes it: a filter, `@Res()`, `@Sse()`, a stream or Nest.
 *
 * While something is pending, each step (`writeHead`, `write`, `end`, `flushHeaders`) is queued and the passenger
 * saved; then the steps run. If saving fails before the headers have left, the response becomes that error (503);
 * if it fails after, the connection is cut, so that a truncated response cannot pass for a complete one.
 */
export class ResponseHook {
  readonly #response: ServerResponse;
  readonly #passenger: Passenger;
  readonly #headers: Headers;
  readonly #original: Steps;
  /** Our functions are on the prototype; otherwise on the response, over those of whoever put some there before. */
  readonly isOnPrototype: boolean;
  /** The hook of another module's session on the same response. */
  readonly #previous: ResponseHook | undefined;
  #queue: Queued[] | undefined;
  #sentBeforeHold = false;
  #decorated = false;
  #failed = false;
  #error: unknown;

  constructor(response: ServerResponse, passenger: Passenger, headers: Headers) {
    this.#response = response;
    this.#passenger = passenger;
    this.#headers = headers;
    const slot = slotOf(response.req);
    this.#previous = slot.hook;
    slot.hook = this;
    const steps = response as unknown as Steps;
    const onPrototype = prototypes.get(Object.getPrototypeOf(response) as object);
    this.isOnPrototype =
      onPrototype !== undefined && STEPS.every((step) => steps[step] === onPrototype.hooked[step]);
    if (onPrototype && this.isOnPrototype) {
      this.#original = onPrototype.original;
    } else {
      const { writeHead, write, end, flushHeaders } = steps;
      this.#original = { writeHead, write, end, flushHeaders };
      // One by one, which is faster than Object.assign.
      steps.writeHead = ofResponses.writeHead;
      steps.write = ofResponses.write;
      steps.end = ofResponses.end;
      steps.flushHeaders = ofResponses.flushHeaders;
    }
    if (!this.#previous) response.on('close', hookedClose);
  }

  /** @internal */
  static take(response: ServerResponse, step: Step, args: unknown[]): unknown {
    return (hookOf(response) as ResponseHook).#take(step, args);
  }

  /** Saves what a response that nobody has begun waits for; undefined if there is nothing. */
  static saving(response: ServerResponse): Promise<void> | undefined {
    for (let hook = hookOf(response); hook; hook = hook.#previous) {
      if (hook.#passenger.pending() && !hook.begun) {
        return hook.#passenger.settle().then(() => ResponseHook.saving(response));
      }
    }
    return undefined;
  }

  /** @internal */
  static closed(response: ServerResponse): void {
    for (let hook = hookOf(response); hook; hook = hook.#previous) hook.#closed();
  }

  /** Whether the headers are really gone, which `response.headersSent` does not tell while we hold them. */
  get headersLeft(): boolean {
    return this.#queue ? this.#sentBeforeHold : this.#response.headersSent;
  }

  /** Whether someone has begun to answer: from here on, saving and its failure are this hook's business. */
  get begun(): boolean {
    return this.#queue !== undefined || this.#response.headersSent || this.#response.writableEnded;
  }

  /** Saving failed before anyone answered, and a filter was told. Should the answer be a success, it is not sent. */
  saveFailed(error: unknown): void {
    this.#failed = true;
    this.#error = error;
  }

  #take(step: Step, args: unknown[]): unknown {
    // The handler may still be streaming into a response that has become an error: that goes nowhere.
    if (this.#failed && (this.#response.writableEnded || this.#response.destroyed)) {
      return step === 'write' ? false : this.#response;
    }
    if (this.#error !== undefined && this.#isSuccess(step, args)) {
      this.#fail(this.#error);
      return this.#response;
    }
    if (this.#queue) return this.#enqueue(step, args);
    if (this.#passenger.pending()) {
      this.#hold();
      return this.#enqueue(step, args);
    }
    return this.#run(step, args);
  }

  #isSuccess(step: Step, [status]: unknown[]): boolean {
    const { headersSent, statusCode } = this.#response;
    return !headersSent && Number(step === 'writeHead' ? status : statusCode) < 300;
  }

  #run(step: Step, args: unknown[]): unknown {
    const decorates = step === 'writeHead' && !this.#decorated;
    if (decorates && this.#headers.hasHeaders()) args = this.#decorate(args);
    const answer = this.#previous
      ? this.#previous.#take(step, args)
      : this.#original[step].apply(this.#response, args);
    // A head that Node refuses has not left, nor have our headers in it.
    if (decorates) this.#decorated = true;
    return answer;
  }

  #enqueue(step: Step, args: unknown[]): unknown {
    const queue = this.#queue as Queued[];
    if (step === 'writeHead' && queue.some((queued) => queued.step !== 'flushHeaders')) throw alreadySent();
    if (queue.at(-1)?.step === 'end') return step === 'write' ? false : this.#response;
    queue.push({ step, args });
    return step === 'write' ? false : this.#response;
  }

  /** To whoever looks, the response is under way: nobody answers twice, nobody changes its headers. */
  #hold(): void {
    const queue: Queued[] = [];
    this.#sentBeforeHold = this.#response.headersSent;
    this.#queue = queue;
    Object.defineProperties(this.#response, {
      headersSent: { configurable: true, get: () => true },
      writableEnded: { configurable: true, get: () => queue.at(-1)?.step === 'end' },
    });
    const originals = HEADER_CHANGES.map((name) => this.#response[name]);
    for (const name of HEADER_CHANGES) {
      this.#response[name] = () => {
        throw alreadySent();
      };
    }
    const release = () => {
      this.#queue = undefined;
      Reflect.deleteProperty(this.#response, 'headersSent');
      Reflect.deleteProperty(this.#response, 'writableEnded');
      HEADER_CHANGES.forEach((name, index) => Reflect.set(this.#response, name, originals[index]));
    };
    void this.#settle().then(
      () => {
        release();
        try {
          this.#replay(queue);
        } catch (error) {
          // Unheld, this would have been thrown at whoever took the step: a header Node cannot send, say.
          this.#abandon(error);
        }
      },
      (error: unknown) => {
        release();
        this.#abandon(error);
      },
    );
  }

  /** More may become pending while we wait. */
  async #settle(): Promise<void> {
    while (this.#passenger.pending()) await this.#passenger.settle();
  }

  #replay(queue: readonly Queued[]): void {
    const response = this.#response;
    let wrote = false;
    for (const { step, args } of queue) {
      if (response.destroyed) return;
      this.#run(step, args);
      wrote ||= step === 'write';
    }
    if (wrote && !response.writableEnded && !response.writableNeedDrain) response.emit('drain');
  }

  #abandon(error: unknown): void {
    this.#passenger.failed(error);
    this.#fail(error);
  }

  #fail(error: unknown): void {
    const response = this.#response;
    this.#failed = true;
    if (response.headersSent) {
      response.destroy();
      return;
    }
    for (const name of response.getHeaderNames()) {
      if (OF_THE_BODY.test(name)) response.removeHeader(name);
    }
    const status = error instanceof HttpException ? error.getStatus() : HttpStatus.INTERNAL_SERVER_ERROR;
    const body = Buffer.from(JSON.stringify({ statusCode: status, message: STATUS_CODES[status] }));
    response.setHeader('Content-Type', 'application/json; charset=utf-8');
    response.setHeader('Content-Length', body.length);
    response.setHeader('Cache-Control', 'no-store');
    response.statusCode = status;
    response.statusMessage = '';
    this.#run('end', [body]);
  }

  /** `writeHead(status, [message], [headers])`: its headers go where ours can join them. */
  #decorate([status, ...rest]: unknown[]): unknown[] {
    const headers = rest.find((arg) => typeof arg === 'object' && arg !== null);
    const message = typeof rest[0] === 'string' ? [rest[0]] : [];
    const joint = headers && this.#joint(headers);
    if (joint) {
      this.#headers.addHeaders(joint);
      return [status, ...message, joint.values];
    }
    if (Array.isArray(headers)) setFlat(this.#response, headers);
    else if (headers) setAll(this.#response, headers as HandedOver);
    this.#headers.addHeaders(this.#response);
    return [status, ...message];
  }

  /** Where all headers are in the one object, as Fastify hands them over, Node sends them as they are, and faster. */
  #joint(headers: object): JointHeaders | undefined {
    if (Array.isArray(headers) || this.#response.getHeaderNames().length > 0) return undefined;
    const values: JointHeaders['values'] = [];
    for (const name in headers) {
      const value = (headers as HandedOver)[name];
      if (value === undefined) return undefined;
      values.push(name, value);
    }
    return new JointHeaders(values);
  }

  /** The client hung up, or the response is complete: what was never answered for is saved all the same. */
  #closed(): void {
    if (!this.#queue && this.#passenger.pending()) {
      this.#settle().catch((error: unknown) => this.#passenger.failed(error));
    }
  }
}

type HandedOver = Record<string, OutgoingHttpHeader | undefined>;

/** Headers in Node's flat form, [name, value, name, value], and ours among them. */
class JointHeaders implements LeavingHeaders {
  constructor(readonly values: OutgoingHttpHeader[]) {}

  getHeader(name: string): OutgoingHttpHeader | undefined {
    return this.values[this.#position(name) + 1];
  }

  hasHeader(name: string): boolean {
    return this.#position(name) < this.values.length;
  }

  setHeader(name: string, value: OutgoingHttpHeader): void {
    const position = this.#position(name);
    this.values[position] = name;
    this.values[position + 1] = value;
  }

  /** Where it is, or would be. */
  #position(name: string): number {
    for (let index = 0; index < this.values.length; index += 2) {
      const other = this.values[index] as string;
      if (other.length === name.length && other.toLowerCase() === name.toLowerCase()) return index;
    }
    return this.values.length;
  }
}

function setAll(response: ServerResponse, headers: HandedOver): void {
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) response.setHeader(name, value);
  }
}

/** Node's flat form, `[name, value, name, value]`, in which a name may occur more than once. */
function setFlat(response: ServerResponse, headers: readonly unknown[]): void {
  const flat = headers.flat() as string[];
  for (let index = 0; index < flat.length; index += 2) response.removeHeader(flat[index]);
  for (let index = 0; index < flat.length; index += 2) response.appendHeader(flat[index], flat[index + 1]);
}

function alreadySent(): Error {
  const error = new Error(
    'Cannot change the response: it has been handed over and waits for the session store.',
  );
  return Object.assign(error, { code: 'ERR_HTTP_HEADERS_SENT' });
}
