import { NAME } from './shared.mjs';

/** The same application without sessions: what everything else is compared with. */
export function library() {
  return {
    handlers: {
      read: { answer: () => NAME },
      write: { answer: () => 'saved' },
    },
  };
}
