import { Session } from '@nestjs/common';
import { sixKeys } from '../six-keys.mjs';
import { nextValue } from './shared.mjs';

/** For libraries whose session is an object with properties. `@Session()` is Nest's own: it hands out `request.session`. */
export const propertyHandlers = {
  create: {
    takes: [Session()],
    answer: (session) => Object.assign(session, sixKeys(nextValue())).name,
  },
  read: { takes: [Session()], answer: (session) => session.name ?? 'nobody' },
  write: {
    takes: [Session()],
    answer: (session) => {
      session.visits = nextValue();
      return 'saved';
    },
  },
  visits: { takes: [Session()], answer: (session) => String(session.visits) },
};
