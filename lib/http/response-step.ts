/** The four methods of a response that send something. */
export type Step = 'writeHead' | 'write' | 'end' | 'flushHeaders';

/** What the steps of a response lead to; see `ResponseHook`. */
export interface StepTaker {
  /** Takes a step in the place of the response's own method, and answers as that would. */
  take(step: Step, args: unknown[]): unknown;
  /** The functions that lead here are the prototype's, and not put on each response. */
  readonly isOnPrototype: boolean;
  /** The connection is closed. */
  closed(): void;
}
