import secureSession from '@fastify/secure-session';
import { Session } from '@nestjs/common';
import { randomBytes } from 'node:crypto';
import { sixKeys } from '../six-keys.mjs';
import { attributes, DAY, nextValue } from './shared.mjs';

/** @fastify/secure-session with a key, as it recommends, and through `get` and `set`, as it documents. */
export function library() {
  return {
    handlers: {
      create: {
        takes: [Session()],
        answer: (session) => {
          for (const [key, value] of Object.entries(sixKeys(nextValue()))) session.set(key, value);
          return session.get('name');
        },
      },
      read: { takes: [Session()], answer: (session) => session.get('name') ?? 'nobody' },
      write: {
        takes: [Session()],
        answer: (session) => {
          session.set('visits', nextValue());
          return 'saved';
        },
      },
      visits: { takes: [Session()], answer: (session) => String(session.get('visits')) },
    },
    prepare: (app) =>
      app.register(secureSession, { key: randomBytes(32), cookie: { ...attributes, maxAge: DAY } }),
  };
}
