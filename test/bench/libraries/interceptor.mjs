import { APP_INTERCEPTOR } from '@nestjs/core';
import { library as bare } from './bare.mjs';

/** What it costs on Nest to be asked at all: an interceptor that does nothing, and nothing else. */
export function library() {
  class Interceptor {
    intercept(_context, next) {
      return next.handle();
    }
  }
  return { ...bare(), providers: [{ provide: APP_INTERCEPTOR, useClass: Interceptor }] };
}
