import { HttpException } from '@nestjs/common';
import type { AbstractHttpAdapter } from '@nestjs/core';
import { RouterExecutionContext } from '@nestjs/core/router/router-execution-context.js';
import { type HttpRequest, ownerOf, rawOf, type Reply } from '../http/request-context.js';
import { ResponseHook } from '../http/response-hook.js';
import { slotIn, slotOf } from '../http/slot.js';
import { RequestSession } from './request-session.js';

// What an interceptor would be to a route. In Nest each request to a route that has one passes through three
// Observables and two AsyncResources, which takes longer than all that sessions do; so a route is looked after where
// its errors and its answers pass by anyway. Resolvers and gateways take the interceptor.

type Create = RouterExecutionContext['create'];
type Answer = (...args: unknown[]) => unknown;

let building = false;

/** Whether Nest is just asking for the interceptors of a route. */
export function isBuildingRoute(): boolean {
  return building;
}

/** Refusing is an answer, and what was written goes with it; a failure is none. */
export function isRefusal(error: unknown): boolean {
  return error instanceof HttpException && error.getStatus() < 500;
}

/** What a guard, a pipe or a handler throws passes here, on its way to the exception filters. */
function failed(error: unknown, request: HttpRequest): void {
  const slot = slotOf(ownerOf(request));
  // A filter does not wait for what it sends, so the response hook does.
  slot.filtered = true;
  if (isRefusal(error)) return;
  if (slot.session instanceof RequestSession) RequestSession.transactionOf(slot.session).discard();
}

const { create } = RouterExecutionContext.prototype;
RouterExecutionContext.prototype.create = function (...args: Parameters<Create>): ReturnType<Create> {
  building = true;
  try {
    const route = create.apply(this, args);
    return (request, response, next) =>
      route(request, response, next).catch((error: unknown) => {
        failed(error, request as HttpRequest);
        throw error;
      });
  } finally {
    building = false;
  }
};

/** Makes an adapter save before it answers: a session that cannot be saved is an error for the exception filters. */
export function saveBeforeAnswering(adapter: AbstractHttpAdapter): void {
  const answers = adapter as unknown as Record<'reply' | 'render' | 'redirect', Answer>;
  for (const name of ['reply', 'render', 'redirect'] as const) {
    const answer = answers[name].bind(adapter);
    answers[name] = (response, ...args) => {
      const raw = rawOf(response as Reply);
      // An adapter of somebody's own may answer what is no response of Node's.
      const waits = raw.req !== undefined && !slotIn(raw.req)?.filtered;
      const saving = waits ? ResponseHook.saving(raw) : undefined;
      return saving ? saving.then(() => answer(response, ...args)) : answer(response, ...args);
    };
  }
}
