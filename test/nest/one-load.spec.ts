import {
  type CallHandler,
  type CanActivate,
  Controller,
  type ExecutionContext,
  Get,
  Injectable,
  type MiddlewareConsumer,
  Module,
  type NestInterceptor,
  Req,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import {
  AuthenticatedGuard,
  Flash,
  Session,
  SessionManager,
  SessionMiddleware,
  SkipSession,
} from 'nest-session';
import { type Browser, onBothAdapters, type Served, serve } from '../support/app.js';

const seen: unknown[] = [];

/** A guard that looks at the request as a newcomer would. */
@Injectable()
class LookingGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ session?: Session; raw?: { session?: Session } }>();
    seen.push(request.session);
    if (request.raw) seen.push(request.raw.session);
    return true;
  }
}

@Injectable()
class EagerGuard implements CanActivate {
  constructor(private readonly sessions: SessionManager) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const all = await Promise.all([
      this.sessions.open(context),
      this.sessions.open(context.switchToHttp().getRequest<object>()),
      this.sessions.open(context),
    ]);
    seen.push(...all);
    return true;
  }
}

@Injectable()
class LookingInterceptor implements NestInterceptor {
  constructor(private readonly sessions: SessionManager) {}

  async intercept(context: ExecutionContext, next: CallHandler) {
    seen.push(await this.sessions.open(context));
    return next.handle();
  }
}

@Controller()
class AskingController {
  constructor(private readonly sessions: SessionManager) {}

  @Get('everyone-asks')
  @UseGuards(LookingGuard, EagerGuard, AuthenticatedGuard)
  @UseInterceptors(LookingInterceptor)
  async everyone(
    @Session() session: Session,
    @Session('userId') _userId: string,
    @Flash('notice') _notice: string,
    @Req() request: { session: Session },
  ) {
    seen.push(session, request.session, await this.sessions.open(request));
    return {};
  }

  @Get('login')
  login(@Session() session: Session) {
    session.set('userId', 'alice');
  }

  @Get('skipped')
  @SkipSession()
  skipped(@Req() request: { session?: Session }) {
    return { session: typeof request.session };
  }

  @Get('skipped-but-guarded')
  @SkipSession()
  @UseGuards(AuthenticatedGuard)
  skippedButGuarded() {
    return {};
  }

  @Get('skipped-by-mistake')
  @SkipSession()
  skippedByMistake(@Session() session: Session) {
    return session.data;
  }
}

@Controller('skip-all')
@SkipSession()
class SkippingController {
  @Get()
  show() {
    return {};
  }
}

@Module({ controllers: [] })
class MiddlewareModule {
  configure(consumer: MiddlewareConsumer): void {
    consumer
      .apply(
        SessionMiddleware,
        (request: { session: Session; originalUrl: string }, _response: object, next: () => void) => {
          seen.push(request.session);
          if (request.originalUrl === '/nowhere') request.session.flash.set('notice', 'from middleware');
          next();
        },
      )
      .forRoutes('{*path}');
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;
  afterEach(() => served.close());
  beforeEach(() => void seen.splice(0));

  async function start(setup: Partial<Parameters<typeof serve>[1]> = {}) {
    served = await serve(adapter, { controllers: [AskingController, SkippingController], ...setup });
    browser = served.browser();
    await browser.get('/login');
    served.store.drain();
    seen.splice(0);
  }

  it('however many parts ask, in sequence and in parallel, they get one object and cost one load', async () => {
    await start();
    expect((await browser.get('/everyone-asks')).status).toBe(200);
    expect(served.store.drain()).toEqual(['load']);
    expect(seen.length).toBeGreaterThanOrEqual(8);
    expect(new Set(seen).size).toBe(1);
  });

  it('every guard bound with @UseGuards finds request.session, without a cookie too', async () => {
    await start();
    expect((await served.http.get('/everyone-asks')).status).toBe(401);
    expect(seen[0]).toBeDefined();
    expect(new Set(seen).size).toBe(1);
    expect(served.store.drain()).toEqual([]);
  });

  it('a global guard that opens the session itself shares it', async () => {
    await start({ providers: [{ provide: APP_GUARD, useClass: EagerGuard }] });
    await browser.get('/everyone-asks');
    expect(served.store.drain()).toEqual(['load']);
    expect(new Set(seen).size).toBe(1);
  });

  it('SessionMiddleware opens it before the guards, for middleware after it and for 404s', async () => {
    await start({ imports: [MiddlewareModule] });
    await browser.get('/everyone-asks');
    expect(served.store.drain()).toEqual(['load']);
    expect(new Set(seen).size).toBe(1);

    const visitor = served.browser();
    expect((await visitor.get('/nowhere')).status).toBe(404);
    expect(visitor.cookie).toBeDefined();
    expect(served.store.drain()).toEqual(['create']);
  });

  describe('@SkipSession()', () => {
    it('reads no cookie, asks no store, and leaves request.session alone', async () => {
      await start();
      const response = await browser.get('/skipped');
      expect(response.body).toEqual({ session: 'undefined' });
      expect(response.headers).not.toHaveProperty('vary');
      expect((await browser.get('/skip-all')).status).toBe(200);
      expect(served.store.drain()).toEqual([]);
    });

    it('does not disarm a guard that needs the session', async () => {
      await start();
      expect((await browser.get('/skipped-but-guarded')).status).toBe(200);
      expect((await served.http.get('/skipped-but-guarded')).status).toBe(401);
    });

    it('together with @Session() is a mistake that says so', async () => {
      await start();
      expect((await browser.get('/skipped-by-mistake')).status).toBe(500);
      expect(served.log.join('\n')).toMatch(/No session was opened for this handler.*@SkipSession\(\)/);
    });
  });
});
