import type { ServerResponse } from 'node:http';
import { stateIn } from './request-state.js';
import type { Step, StepTaker } from './response-step.js';

type Method = (...args: unknown[]) => unknown;
export type Steps = Record<Step, Method>;

export function hookOf({ req }: ServerResponse): StepTaker | undefined {
  return stateIn(req)?.hook;
}

/** Makes the steps of a response lead to its hook. Answers those that were there: Node's own, or those of a neighbour. */
export function hookSteps(response: ServerResponse): { original: Steps; isOnPrototype: boolean } {
  const steps = response as unknown as Steps & { writeHeader: Method };
  for (const { hooked, original } of prototypes) {
    if (isSame(hooked, steps)) return { original, isOnPrototype: true };
  }
  const { writeHead, write, end, flushHeaders } = steps;
  // One by one, which is faster than Object.assign. `writeHeader` is Node's other name for `writeHead`.
  steps.writeHead = steps.writeHeader = onResponse.writeHead;
  steps.write = onResponse.write;
  steps.end = onResponse.end;
  steps.flushHeaders = onResponse.flushHeaders;
  return { original: { writeHead, write, end, flushHeaders }, isOnPrototype: false };
}

/** Shared by all responses: closures for each cost time. */
const onResponse = methods((step) => {
  return function (this: ServerResponse, ...args: unknown[]) {
    return (hookOf(this) as StepTaker).take(step, args);
  };
});

/** The prototypes that lead to the hooks of their responses, and their methods before. */
const prototypes: { readonly prototype: object; readonly hooked: Steps; readonly original: Steps }[] = [];

/**
 * Makes a prototype lead to the hooks of its responses; those without a hook are sent as before. For Express: it gives
 * each response a prototype of its own, after which V8 needs ten microseconds for each function that is put on one.
 */
export function hookPrototype(prototype: object): void {
  if (prototypes.some((known) => known.prototype === prototype)) return;
  const original = methods((step) => (prototype as Steps)[step]);
  const hooked = methods((step) => {
    const before = original[step];
    return function (this: ServerResponse, ...args: unknown[]) {
      const hook = hookOf(this);
      return hook?.isOnPrototype ? hook.take(step, args) : before.apply(this, args);
    };
  });
  Object.assign(prototype, hooked, { writeHeader: hooked.writeHead });
  prototypes.push({ prototype, hooked, original });
}

function methods(make: (step: Step) => Method): Steps {
  return {
    writeHead: make('writeHead'),
    write: make('write'),
    end: make('end'),
    flushHeaders: make('flushHeaders'),
  };
}

function isSame(a: Steps, b: Steps): boolean {
  return (
    a.end === b.end && a.write === b.write && a.writeHead === b.writeHead && a.flushHeaders === b.flushHeaders
  );
}
