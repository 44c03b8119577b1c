import { AsyncLocalStorage } from 'node:async_hooks';

// A timer keeps the asynchronous context it was made in, which is to be no request's.
const outsideRequests = AsyncLocalStorage.snapshot();

/** Runs something every so many milliseconds. Does not keep the process alive. */
export function everyMilliseconds(interval: number, run: () => void): NodeJS.Timeout {
  return outsideRequests(() => setInterval(run, interval)).unref();
}

/** Runs something once, after so many milliseconds. Does not keep the process alive. */
export function afterMilliseconds(delay: number, run: () => void): NodeJS.Timeout {
  return outsideRequests(() => setTimeout(run, delay)).unref();
}
