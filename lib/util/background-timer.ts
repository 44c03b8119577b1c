import { AsyncLocalStorage } from 'node:async_hooks';

// A timer keeps the asynchronous context in which it was made. Made during a request, it would hold that request's
// AsyncLocalStorage for good, so it is made in the context in which this module was loaded.
const outsideRequests = AsyncLocalStorage.snapshot();

/** Calls `run` every `interval` milliseconds. Does not keep the process alive. */
export function everyMilliseconds(interval: number, run: () => void): NodeJS.Timeout {
  return outsideRequests(() => setInterval(run, interval)).unref();
}

/** Calls `run` once, after `delay` milliseconds. Does not keep the process alive. */
export function afterMilliseconds(delay: number, run: () => void): NodeJS.Timeout {
  return outsideRequests(() => setTimeout(run, delay)).unref();
}
