import { Inject } from '@nestjs/common';
import { SESSION_STORE } from './session-store.js';

/** Injects the store in use. */
export const InjectSessionStore = (): ReturnType<typeof Inject> => Inject(SESSION_STORE);
