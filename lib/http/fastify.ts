import type { ServerResponse } from 'node:http';
import { stateOf } from './request-state.js';

interface Fastify {
  addHook(
    name: 'onRequest',
    hook: (request: { raw: object }, reply: { raw: ServerResponse }, done: () => void) => void,
  ): void;
}

/**
 * Prepares a Fastify instance: a bare request knows its response, which is all that a GraphQL context holds there.
 *
 * `request.session` is no decorator: Fastify refuses a second one of the same name, and with it @fastify/session.
 */
export function prepareFastify(fastify: Fastify): void {
  fastify.addHook('onRequest', (request, reply, done) => {
    stateOf(request.raw).response = reply.raw;
    done();
  });
}
