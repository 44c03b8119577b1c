import type { ServerResponse } from 'node:http';
import { stateOf } from './request-state.js';
import { rememberAdapter, type SeenRequest } from './seen-by-adapter.js';

interface Fastify {
  addHook(
    name: 'onRequest',
    hook: (request: { raw: object }, reply: { raw: ServerResponse }, done: () => void) => void,
  ): void;
}

/**
 * Prepares a Fastify instance: a bare request knows its response, which is all that a GraphQL context holds there, and
 * upgrades of its server are seen by its `trustProxy`.
 *
 * `request.session` is no decorator: Fastify refuses a second one of the same name, and with it @fastify/session.
 */
export function prepareFastify(fastify: Fastify, server: object): void {
  fastify.addHook('onRequest', (request, reply, done) => {
    stateOf(request.raw).response = reply.raw;
    done();
  });
  const prototype = prototypeOf(fastify);
  if (!prototype) return;
  rememberAdapter(server, (raw) => Object.create(prototype, { raw: { value: raw } }) as SeenRequest);
}

/**
 * The prototype of an instance's requests, which knows its `trustProxy`. It is kept under a symbol of Fastify's own;
 * where there is none, an upgrade is seen by its socket alone.
 */
function prototypeOf(fastify: object): object | undefined {
  const key = Object.getOwnPropertySymbols(fastify).find(
    ({ description }) => description === 'fastify.Request',
  );
  return key && (Reflect.get(fastify, key) as { readonly prototype?: object } | undefined)?.prototype;
}
