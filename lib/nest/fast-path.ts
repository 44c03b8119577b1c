import { Logger, type NestInterceptor } from '@nestjs/common';
import { isObservable, lastValueFrom } from 'rxjs';
import { isRefusal, savedAnswer, savedWith, SessionInterceptor } from './session.interceptor.js';

/** Nest's own step in which the interceptors and the handler of a route run. */
interface InterceptorsConsumer {
  intercept(
    interceptors: readonly NestInterceptor[],
    args: unknown[],
    instance: object,
    callback: unknown,
    next: () => Promise<unknown>,
    type?: string,
  ): Promise<unknown>;
}

const INSTALLED = Symbol.for('nest-session:fast-path');

/**
 * Makes routes do what {@link SessionInterceptor} does without being one of their interceptors, which costs a request 8
 * to 17 µs (README, Performance). An addition and no part of the mechanism: without this function, or where Nest's
 * inside is not as expected, the interceptor does it all.
 */
export async function installFastPath(): Promise<void> {
  try {
    const nest = await import('@nestjs/core/interceptors/interceptors-consumer.js');
    const prototype = nest.InterceptorsConsumer.prototype as unknown as InterceptorsConsumer;
    if (INSTALLED in prototype) return;
    if (!(await isAsExpected(new nest.InterceptorsConsumer() as unknown as InterceptorsConsumer)))
      throw new Error('its interceptors run in another way');
    prototype.intercept = fasterThan(prototype.intercept);
    Object.defineProperty(prototype, INSTALLED, { value: true });
  } catch (error) {
    new Logger('SessionModule').warn(
      `Routes run without the fast path for sessions, since this version of Nest is not known to it (${String(error)}). ` +
        'Everything works, each request takes a few microseconds longer.',
    );
  }
}

function fasterThan(original: InterceptorsConsumer['intercept']): InterceptorsConsumer['intercept'] {
  return async function (this: InterceptorsConsumer, interceptors, args, instance, callback, next, type) {
    const ours = type === 'http' ? interceptors.find((one) => one instanceof SessionInterceptor) : undefined;
    if (!ours) return original.call(this, interceptors, args, instance, callback, next, type);
    const others = interceptors.filter((one) => one !== ours);
    const transaction = ours.transactionOf(args[0], args[1]);
    if (!transaction) return original.call(this, others, args, instance, callback, next, type);

    const handler = (): Promise<unknown> => {
      transaction.beginTry();
      return next();
    };
    const ends = transaction.handle();
    try {
      const result = await (others.length === 0
        ? handler()
        : original.call(this, others, args, instance, callback, handler, type));
      if (isObservable(result)) return savedWith(transaction, result);
      await savedAnswer(transaction);
      return result;
    } catch (error) {
      if (isRefusal(error)) await savedAnswer(transaction);
      else transaction.discard();
      throw error;
    } finally {
      ends();
    }
  };
}

/** Tries what the fast path counts on: arguments, context, handler and result, with an interceptor and without. */
async function isAsExpected(consumer: InterceptorsConsumer): Promise<boolean> {
  let seen: unknown;
  const probe: NestInterceptor = {
    intercept: (context, next) => {
      seen = context.switchToHttp().getRequest();
      return next.handle();
    },
  };
  const call = (interceptors: NestInterceptor[]) =>
    consumer.intercept(interceptors, ['request'], {}, isAsExpected, () => Promise.resolve('answer'), 'http');
  const [plain, intercepted] = [await call([]), await call([probe])];
  if (plain !== 'answer' || !isObservable(intercepted)) return false;
  return (await lastValueFrom(intercepted)) === 'answer' && seen === 'request';
}
