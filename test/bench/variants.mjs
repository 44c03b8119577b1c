import { NAME } from './libraries/shared.mjs';

/**
 * What is measured, in the order of a round. `library` is a file in libraries/, `peer` what ours is compared with, and
 * `follows` says that the session is in the cookie, so that a client must send back that of the last answer.
 */
export const variants = [
  { name: 'express bare', library: 'bare' },
  { name: 'express empty interceptor', library: 'interceptor' },
  { name: 'express nest-session memory', peer: 'express express-session memory' },
  { name: 'express express-session memory', library: 'express-session' },
  { name: 'express nest-session redis', peer: 'express connect-redis' },
  { name: 'express connect-redis', library: 'express-session' },
  { name: 'express nest-session redis, near-cache', peer: 'express connect-redis', cache: true },
  { name: 'express nest-session cookie', peer: 'express cookie-session', follows: true },
  // It sends two cookies, of which load.lua sees one. It remembers nothing, so the same two again cost the same.
  { name: 'express cookie-session', library: 'cookie-session' },

  { name: 'fastify bare', library: 'bare' },
  { name: 'fastify empty interceptor', library: 'interceptor' },
  { name: 'fastify nest-session memory', peer: 'fastify @fastify/session memory' },
  { name: 'fastify @fastify/session memory', library: 'fastify-session' },
  { name: 'fastify nest-session redis', peer: 'fastify connect-redis' },
  { name: 'fastify connect-redis', library: 'fastify-session' },
  { name: 'fastify nest-session redis, near-cache', peer: 'fastify connect-redis', cache: true },
  { name: 'fastify nest-session cookie', peer: 'fastify @fastify/secure-session', follows: true },
  {
    name: 'fastify @fastify/secure-session',
    library: 'fastify-secure-session',
    store: 'cookie',
    follows: true,
  },
].map((variant) => ({
  library: 'nest-session',
  framework: variant.name.split(' ')[0],
  store: /redis|cookie|memory/.exec(variant.name)?.[0],
  ...variant,
}));

/**
 * What a request asks for, whether it brings a session's cookie, and what it is answered, if not the name in that
 * session; `library`: the only one that has the path.
 */
export const scenarios = [
  { name: 'no cookie', path: '/read', cookie: false, answer: 'nobody' },
  { name: 'read', path: '/read', cookie: true },
  { name: 'write', path: '/write', cookie: true, answer: 'saved' },
  // There is a session, and a handler that does not ask for it; then the same under @SkipSession().
  { name: 'unread', path: '/unread', cookie: true, answer: NAME },
  { name: 'skip', path: '/skip', cookie: true, answer: NAME, library: 'nest-session' },
];
