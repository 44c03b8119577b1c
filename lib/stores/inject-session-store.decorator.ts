import { Inject } from '@nestjs/common';
import { SESSION_STORE } from './session-store.js';

/** Injects the store in use: short for `@Inject(SESSION_STORE)`. */
export const InjectSessionStore = (): ReturnType<typeof Inject> => Inject(SESSION_STORE);
