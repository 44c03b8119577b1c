import {
  All,
  Body,
  Controller,
  Get,
  Head,
  Header,
  HttpCode,
  Post,
  Query,
  Res,
  type Type,
  UseGuards,
} from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import {
  AuthenticatedGuard,
  CsrfGuard,
  CsrfProtect,
  CsrfService,
  CsrfToken,
  Session,
  type SessionModuleOptions,
  SkipCsrf,
} from 'nest-session';
import { type Adapter, type Served, serve } from './app.js';

/** How often a handler has run, which is what a refusal prevents. */
export const handlers = { runs: 0 };

/** Express's and Fastify's. */
interface Reply {
  header(name: string, value: string): unknown;
}

@Controller()
export class GuardedController {
  constructor(private readonly csrf: CsrfService) {}

  @Get('form')
  form(@CsrfToken() token: string) {
    return { token };
  }

  @Post('save')
  @HttpCode(200)
  @UseGuards(CsrfGuard)
  save(@Body() body: unknown) {
    handlers.runs++;
    return { saved: typeof body };
  }

  @Post('set')
  @HttpCode(200)
  @UseGuards(CsrfGuard)
  set(@Session() session: Session<any>) {
    session.increment('writes');
  }

  @Post('login')
  @HttpCode(200)
  @UseGuards(CsrfGuard)
  async login(@Session() session: Session) {
    await session.login('alice');
    return {};
  }

  @Post('regenerate')
  @HttpCode(200)
  @UseGuards(CsrfGuard)
  async regenerate(@Session() session: Session) {
    await session.regenerate();
  }

  @Post('logout')
  @HttpCode(200)
  @UseGuards(CsrfGuard)
  async logout(@Session() session: Session) {
    await session.logout();
  }

  @All('any')
  @HttpCode(200)
  @UseGuards(CsrfGuard)
  any() {
    handlers.runs++;
    return {};
  }

  @Get('unsubscribe')
  @Head('unsubscribe')
  @CsrfProtect()
  @UseGuards(CsrfGuard)
  unsubscribe() {
    handlers.runs++;
    return {};
  }

  @Post('hook')
  @HttpCode(200)
  @SkipCsrf()
  @UseGuards(CsrfGuard)
  hook() {
    return {};
  }

  @Get('public')
  @Header('Cache-Control', 'public, max-age=3600')
  public() {
    return {};
  }

  @Get('cached')
  cached(@Query('as') as: string, @Res({ passthrough: true }) reply: Reply, @CsrfToken() token: string) {
    reply.header('Cache-Control', as);
    return { token };
  }

  @Get('cached-and-set')
  @Header('Cache-Control', 'max-age=60')
  cachedAndSet(@Session() session: Session<any>) {
    session.increment('visits');
    return {};
  }

  @Get('service')
  async service(@Session() session: Session) {
    const token = await this.csrf.token({ headers: {} }).catch((error: Error) => error.message);
    return { token, own: typeof session.id };
  }

  @Post('private')
  @HttpCode(200)
  @UseGuards(CsrfGuard, AuthenticatedGuard)
  guardFirst() {
    return {};
  }

  @Post('private-too')
  @HttpCode(200)
  @UseGuards(AuthenticatedGuard, CsrfGuard)
  guardLast() {
    return {};
  }
}

@Controller()
export class GlobalController {
  @Post('hook')
  @HttpCode(200)
  @SkipCsrf()
  hook() {
    return {};
  }

  @Post('hook/deeper')
  @HttpCode(200)
  deeper() {
    return {};
  }

  @Post('*')
  @HttpCode(200)
  rest() {
    return {};
  }
}

@Controller('exempt')
@SkipCsrf()
@UseGuards(CsrfGuard)
export class ExemptController {
  @Post('not-this')
  @CsrfProtect()
  @HttpCode(200)
  protected() {
    return {};
  }

  @Post()
  @HttpCode(200)
  hook() {
    return {};
  }
}

@Controller('heir')
export class HeirController extends ExemptController {}

@Controller('guarded-heir')
@CsrfProtect()
export class GuardedHeirController extends ExemptController {}

export interface CsrfApp {
  options?: Partial<SessionModuleOptions>;
  controllers?: Type[];
  global?: boolean;
  trustProxy?: boolean;
}

/** An application whose routes {@link CsrfGuard} guards. */
export async function serveGuarded(
  adapter: Adapter,
  csrf: SessionModuleOptions['csrf'],
  more: CsrfApp,
): Promise<Served> {
  handlers.runs = 0;
  return serve(adapter, {
    controllers: more.controllers ?? [GuardedController],
    options: { csrf, ...more.options },
    trustProxy: more.trustProxy,
    // As @fastify/multipart does: the body is there for whoever asks for it later.
    prepare: (app) =>
      adapter === 'fastify' &&
      app
        .getHttpAdapter()
        .getInstance()
        .addContentTypeParser('multipart/form-data', (_request: unknown, _body: unknown, done: () => void) =>
          done(),
        ),
    providers: more.global ? [{ provide: APP_GUARD, useExisting: CsrfGuard }] : [],
  });
}
