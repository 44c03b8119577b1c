import { ServerResponse } from 'node:http';
import { constants } from 'node:http2';
import { sendError } from './error-response.js';
import { HeldResponse, tellCallback } from './held-response.js';
import { joinHead, type OutgoingHeaders } from './outgoing-headers.js';
import type { Step, StepTaker } from './response-step.js';
import { hookOf, hookSteps, type Steps } from './response-steps.js';
import { stateOf } from './request-state.js';

/** A session as its response sees it. */
export interface BeforeSend {
  /** Saves what is unsaved. Undefined: nothing is, and nothing has to wait. `sendsHeaders`: the headers leave next. */
  save(sendsHeaders: boolean): Promise<void> | undefined;
  /** The error of a save that failed, until a later save succeeds. */
  readonly failure: unknown;
  /** The headers leave now: what still needs a cookie is refused. */
  seal(): void;
  /** The connection is closed. `ended`: the response had been ended, so {@link save} was asked for all but what came since. */
  closed(ended: boolean): void;
  /** The response became this error, and what was not saved is dropped. */
  failed(error: unknown): void;
  hasHeaders(): boolean;
  /** Puts the cookie and `Vary` on the response. Called again if Node refuses the head. */
  addHeaders(headers: OutgoingHeaders): void;
}

/**
 * Makes a response wait until its sessions are saved, whoever sends it: Nest, a filter, `@Res()`, `@Sse()`, a stream.
 *
 * There are two decisions, and each is made once. *Begin*, at the first step that sends something: is there something
 * to save? Then one save is made, the steps wait, and run in their order. *End*, at `end()`: what was written to the
 * session since then is saved before the end is let go. Where the first step is the end, both are one. In between
 * nothing waits. A save that fails turns the response into that error (503); once headers have left it cuts the
 * connection, so that half an answer does not pass for a whole one.
 *
 * The functions that lead here are put on a response when its session is opened, over those of neighbours such as
 * compression; where there are none, Express's prototype leads here at less cost ({@link hookSteps}). While one of theirs
 * or of Node's own runs, what it calls itself (`end` calls `writeHead`) passes through: holding it there would send a body
 * without a head.
 */
export class ResponseHook implements StepTaker {
  readonly #response: ServerResponse;
  readonly #original: Steps;
  readonly isOnPrototype: boolean;
  readonly #sessions: BeforeSend[] = [];
  /** `waiting` for the first step, `begun`, `ended`, or `failed`: the response has become an error. */
  #phase: 'waiting' | 'begun' | 'ended' | 'failed' = 'waiting';
  #held: HeldResponse | undefined;
  /** A method of Node's, or of a neighbour between us and Node, is running. */
  #running = false;
  #hasOurHeaders = false;
  #closed = false;

  private constructor(response: ServerResponse) {
    this.#response = response;
    ({ original: this.#original, isOnPrototype: this.isOnPrototype } = hookSteps(response));
    if (response.writableEnded) this.#phase = 'ended';
    else if (response.headersSent) this.#phase = 'begun';
    this.#closed = response.closed || response.destroyed;
    response.on('close', onClose);
  }

  /** The hook of a response, made when it is first asked for. */
  static of(response: ServerResponse): ResponseHook {
    const state = stateOf(response.req);
    return (state.hook ??= new ResponseHook(response)) as ResponseHook;
  }

  /** The response waits for one session more. */
  add(session: BeforeSend): void {
    this.#sessions.push(session);
    if (this.#phase !== 'waiting') session.seal();
  }

  /** True once headers have really left, which `response.headersSent` does not tell while the response is held. */
  get headersLeft(): boolean {
    return this.#held ? this.#held.headersLeft : this.#response.headersSent;
  }

  /** True once somebody has begun to answer: from here on saving, and its failure, are the hook's business. */
  get begun(): boolean {
    return this.#phase !== 'waiting' || this.#response.headersSent;
  }

  /** True once the connection is closed: nobody asks for a save any more, unless the response is still ended. */
  get isClosed(): boolean {
    return this.#closed;
  }

  take(step: Step, args: unknown[]): unknown {
    if (this.#running) return this.#run(step, args);
    if (this.#isErrorNow) return this.#swallow(step, args);
    if (this.#held) return this.#held.take(step, args);
    if (this.#phase === 'ended' || (this.#phase === 'begun' && step !== 'end')) return this.#run(step, args);

    const isBegin = this.#phase === 'waiting';
    this.#phase = step === 'end' ? 'ended' : 'begun';
    const saving = this.#save(isBegin);
    if (saving) return this.#hold(saving, isBegin, step, args);
    const failure = isBegin ? this.#failureBehind(step, args) : undefined;
    if (failure !== undefined) {
      this.#fail(failure, []);
      return this.#swallow(step, args);
    }
    if (isBegin) for (const session of this.#sessions) session.seal();
    return this.#run(step, args);
  }

  closed(): void {
    if (this.#closed) return;
    this.#closed = true;
    // A response that is held decides when it is let go.
    if (!this.#held) this.#tellClosed();
  }

  #tellClosed(): void {
    if (this.#phase === 'failed') return;
    for (const session of this.#sessions) session.closed(this.#phase === 'ended');
  }

  /** The handler may go on streaming into a response that a filter or {@link #fail} has answered: that goes nowhere. */
  get #isErrorNow(): boolean {
    return this.#phase === 'failed' || (this.#response.writableEnded && this.#failure() !== undefined);
  }

  /** Takes a step that goes nowhere. Who waits for it is told, and who waits for 'drain' goes on to his end. */
  #swallow(step: Step, args: unknown[]): unknown {
    tellCallback(args, this.#failure() ?? new Error('The response has become an error.'));
    if (step !== 'write') return this.#response;
    setImmediate(() => this.#response.emit('drain'));
    return false;
  }

  #save(sendsHeaders: boolean): Promise<unknown> | undefined {
    const saving = this.#sessions
      .map((session) => session.save(sendsHeaders))
      .filter((one) => one !== undefined);
    if (saving.length < 2) return saving[0];
    // All are waited for, also where one fails.
    return Promise.allSettled(saving).then(() => Promise.all(saving));
  }

  #failure(): unknown {
    for (const { failure } of this.#sessions) if (failure !== undefined) return failure;
    return undefined;
  }

  /** A save, a logout or a rotation that failed, whoever caught the error, must not be answered with a success. */
  #failureBehind(step: Step, [status]: unknown[]): unknown {
    const isSuccess = Number(step === 'writeHead' ? status : this.#response.statusCode) < 400;
    return isSuccess ? this.#failure() : undefined;
  }

  /** Ends: the save does, by the store's timeout, and each step that waited is taken once. */
  #hold(saving: Promise<unknown>, isBegin: boolean, step: Step, args: unknown[]): unknown {
    const held = new HeldResponse(this.#response);
    this.#held = held;
    saving.then(
      () => {
        const failure = isBegin ? this.#failureBehind(step, args) : undefined;
        if (failure === undefined) this.#release(held);
        else this.#fail(failure, held.release());
      },
      (error: unknown) => this.#fail(error, held.release()),
    );
    return held.take(step, args);
  }

  #release(held: HeldResponse): void {
    const steps = held.release();
    this.#held = undefined;
    let isDrained = false;
    while (steps.length > 0) {
      const { step, args } = steps[0];
      try {
        const answer = this.take(step, args);
        if (step === 'write') isDrained = answer !== false;
      } catch (error) {
        // Unheld, this would have been thrown at whoever took the step: a header that Node cannot send, say.
        return this.#fail(error, steps);
      }
      steps.shift();
    }
    if (isDrained && this.#phase === 'begun') held.drain();
    if (this.#closed && !this.#held) this.#tellClosed();
  }

  #run(step: Step, args: unknown[]): unknown {
    const joins =
      !this.#hasOurHeaders && (step === 'writeHead' || !(this.#response instanceof ServerResponse));
    if (joins) args = this.#join(step, args);
    const wasRunning = this.#running;
    this.#running = true;
    try {
      const answer = this.#original[step].apply(this.#response, args);
      // A head that Node refuses has not left, nor have our headers in it.
      if (joins) this.#hasOurHeaders = true;
      return answer;
    } finally {
      this.#running = wasRunning;
    }
  }

  /** HTTP/2's response does not call `writeHead` for a body that is empty, so its headers are set at any first step. */
  #join(step: Step, args: unknown[]): unknown[] {
    const sessions = this.#sessions.filter((session) => session.hasHeaders());
    if (sessions.length === 0) return args;
    const add = (headers: OutgoingHeaders): void => {
      for (const session of sessions) session.addHeaders(headers);
    };
    if (step === 'writeHead') return joinHead(this.#response, args, add);
    if (!this.#response.headersSent) add(this.#response);
    return args;
  }

  #fail(error: unknown, steps: readonly { readonly args: unknown[] }[]): void {
    this.#held = undefined;
    this.#phase = 'failed';
    for (const session of this.#sessions) session.failed(error);
    for (const { args } of steps) tellCallback(args, error);
    try {
      if (!this.#response.headersSent)
        return sendError(this.#response, error, (body) => this.#run('end', [body]));
    } catch (problem) {
      for (const session of this.#sessions) session.failed(problem);
    }
    cut(this.#response);
  }
}

function onClose(this: ServerResponse): void {
  hookOf(this)?.closed();
}

/** Ends a connection so that its client cannot take half an answer for a whole one. */
function cut(response: ServerResponse): void {
  // HTTP/2's destroy() says NO_ERROR, which is what the end of a whole answer says.
  const { stream } = response as { stream?: { close?(code: number): void } };
  if (stream?.close) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  else response.destroy();
}
