import {
  type CallHandler,
  type CanActivate,
  ConflictException,
  Controller,
  type ExecutionContext,
  Get,
  Injectable,
  type NestInterceptor,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { Session } from 'nest-session';
import { catchError, type Observable, of, retry } from 'rxjs';
import { onBothAdapters, type Served, serve } from '../support/app.js';

@Injectable()
class RetryInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(retry(2));
  }
}

@Injectable()
class FallbackInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(catchError(() => of({ fallback: true })));
  }
}

@Injectable()
class CountingGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    context.switchToHttp().getRequest<{ session: Session<any> }>().session.set('guard', { was: 'here' });
    return true;
  }
}

let tries = 0;

@Controller()
class RetryController {
  @Get('defect')
  @UseInterceptors(RetryInterceptor)
  defect(@Session() session: Session<any>) {
    return this.#try(session, () => new Error('a defect'));
  }

  @Get('refusal')
  @UseInterceptors(RetryInterceptor)
  refusal(@Session() session: Session<any>) {
    return this.#try(session, () => new ConflictException());
  }

  @Get('guarded')
  @UseGuards(CountingGuard)
  @UseInterceptors(RetryInterceptor)
  guarded(@Session() session: Session<any>) {
    return this.#try(session, () => new Error('a defect'));
  }

  @Get('global')
  global(@Session() session: Session<any>) {
    return this.#try(session, () => new Error('a defect'));
  }

  @Get('fallback')
  @UseInterceptors(FallbackInterceptor)
  fallback(@Session() session: Session<any>) {
    session.set('written', 'before it failed');
    throw new Error('a defect');
  }

  @Get('saved')
  saved(@Session() session: Session<any>) {
    return session.data;
  }

  #try(session: Session<any>, error: () => Error) {
    tries++;
    session.set(`try ${tries}`, true).increment('count');
    session.get('cart', []).push(tries);
    if (tries < 3) throw error();
    return { tries };
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  beforeEach(() => void (tries = 0));
  afterEach(() => served.close());

  it.each(['defect', 'refusal'])('tries of a handler that failed leave nothing: %s', async (route) => {
    served = await serve(adapter, { controllers: [RetryController] });
    const browser = served.browser();
    expect((await browser.get(`/${route}`)).body).toEqual({ tries: 3 });
    expect((await browser.get('/saved')).body).toEqual({ 'try 3': true, count: 1 });
    expect(served.store.drain()).toEqual(['create', 'load']);
  });

  it('what a guard has written before the first try stays', async () => {
    served = await serve(adapter, { controllers: [RetryController] });
    const browser = served.browser();
    expect((await browser.get('/guarded')).body).toEqual({ tries: 3 });
    expect((await browser.get('/saved')).body).toEqual({ guard: { was: 'here' }, 'try 3': true, count: 1 });
  });

  it('the same where the application retries everything', async () => {
    served = await serve(adapter, {
      controllers: [RetryController],
      providers: [{ provide: APP_INTERCEPTOR, useClass: RetryInterceptor }],
    });
    const browser = served.browser();
    expect((await browser.get('/global')).body).toEqual({ tries: 3 });
    expect((await browser.get('/saved')).body).toEqual({ 'try 3': true, count: 1 });
  });

  it('an interceptor that answers for a handler that failed has what was written saved', async () => {
    served = await serve(adapter, { controllers: [RetryController] });
    const browser = served.browser();
    expect((await browser.get('/fallback')).body).toEqual({ fallback: true });
    expect((await browser.get('/saved')).body).toEqual({ written: 'before it failed' });
  });
});
