import { Logger, type NestInterceptor } from '@nestjs/common';
import type { InterceptorsConsumer } from '@nestjs/core/interceptors/interceptors-consumer.js';
import { isObservable, lastValueFrom, of } from 'rxjs';
import { isRefusal, savedAnswer, savedWith, SessionInterceptor } from './session.interceptor.js';

/** Nest's own step in which the interceptors and the handler of a route run. */
type Intercept = InterceptorsConsumer['intercept'];

const INSTALLED = Symbol.for('nest-session:fast-path');

/**
 * Makes routes do what {@link SessionInterceptor} does without an interceptor, which costs a request 8 to 17 µs. An
 * addition: without this function, or where Nest's inside is not as expected, the interceptor does it all.
 */
export async function installFastPath(): Promise<void> {
  try {
    const nest = await import('@nestjs/core/interceptors/interceptors-consumer.js');
    const { prototype } = nest.InterceptorsConsumer;
    if (INSTALLED in prototype) return;
    if (!(await isAsExpected(new nest.InterceptorsConsumer()))) throw new Error('its interceptors differ');
    prototype.intercept = fasterThan(prototype.intercept);
    Object.defineProperty(prototype, INSTALLED, { value: true, configurable: true });
  } catch (error) {
    new Logger('SessionModule').warn(
      `Routes run without the fast path for sessions, a few microseconds slower: ${String(error)}. Everything works.`,
    );
  }
}

function fasterThan(original: Intercept): Intercept {
  return async function (this: InterceptorsConsumer, interceptors, args, instance, callback, next, type) {
    const ours = type === 'http' ? interceptors.find(isOurs) : undefined;
    if (!ours) return original.call(this, interceptors, args, instance, callback, next, type);
    const others = interceptors.length === 1 ? [] : interceptors.filter((one) => one !== ours);
    const transaction = ours.transactionOf(args[0], args[1]);
    if (!transaction) return original.call(this, others, args, instance, callback, next, type);

    const handler = (): Promise<unknown> => {
      transaction.saving.beginTry();
      return next();
    };
    transaction.saving.handlerBegins();
    try {
      const result = await (others.length === 0
        ? handler()
        : original.call(this, others, args, instance, callback, handler, type));
      if (isObservable(result)) return savedWith(transaction, result);
      await savedAnswer(transaction);
      return result;
    } catch (error) {
      if (isRefusal(error)) await savedAnswer(transaction);
      else transaction.saving.handlerFailed();
      throw error;
    } finally {
      transaction.saving.handlerEnds();
    }
  };
}

/** One of a class derived from ours is somebody else's, and has to run. */
const isOurs = (interceptor: NestInterceptor): interceptor is SessionInterceptor =>
  Object.getPrototypeOf(interceptor) === SessionInterceptor.prototype;

/** Tries what the fast path counts on: arguments, context, handler and result, with an interceptor and without. */
async function isAsExpected(consumer: InterceptorsConsumer): Promise<boolean> {
  const probe: NestInterceptor = {
    intercept: (context, next) => (context.getArgByIndex(0) === 'request' ? next.handle() : of('another')),
  };
  const call = (interceptors: NestInterceptor[]) =>
    consumer.intercept(
      interceptors,
      ['request'],
      {},
      () => {},
      async () => 'answer',
      'http',
    );
  const result = await call([probe]);
  return (await call([])) === 'answer' && isObservable(result) && (await lastValueFrom(result)) === 'answer';
}
