import {
  type DynamicModule,
  Inject,
  Module,
  type OnApplicationBootstrap,
  type OnModuleInit,
} from '@nestjs/common';
import { APP_GUARD, APP_INTERCEPTOR, HttpAdapterHost } from '@nestjs/core';
import { AuthenticatedGuard } from './auth/authenticated.guard.js';
import { CsrfGuard } from './csrf/csrf.guard.js';
import { CsrfService } from './csrf/csrf.service.js';
import { prepareExpress } from './http/express.js';
import { prepareFastify } from './http/fastify.js';
import { rememberUpgrades } from './http/request-context.js';
import { installFastPath } from './nest/fast-path.js';
import { SessionInterceptor } from './nest/session.interceptor.js';
import { type ResolvedSessionOptions, resolveOptions, SESSION_OPTIONS } from './options/resolved-options.js';
import { sessionConfig } from './session.config.js';
import type { SessionModuleOptions } from './options/session-module-options.js';
import {
  type ASYNC_OPTIONS_TYPE,
  ConfigurableModuleClass,
  MODULE_OPTIONS_TOKEN,
} from './session.module-definition.js';
import { SessionHealthIndicator } from './nest/session-health.indicator.js';
import { SessionLoaderGuard } from './nest/session-loader.guard.js';
import { SessionManager } from './session/session-manager.js';
import { SessionRuntime } from './session/session-runtime.js';
import { SessionMiddleware } from './nest/session.middleware.js';
import { SessionSockets } from './nest/session-sockets.js';
import { SESSION_STORE } from './stores/session-store.js';

/** Gives every route a session. Import it once, in the root module. */
@Module({
  providers: [
    {
      provide: SESSION_OPTIONS,
      useFactory: (options: SessionModuleOptions) => resolveOptions(options),
      inject: [MODULE_OPTIONS_TOKEN],
    },
    {
      provide: SESSION_STORE,
      useFactory: ({ store }: ResolvedSessionOptions) => store,
      inject: [SESSION_OPTIONS],
    },
    {
      provide: SessionRuntime,
      useFactory: (options: ResolvedSessionOptions) => new SessionRuntime(options),
      inject: [SESSION_OPTIONS],
    },
    SessionManager,
    SessionMiddleware,
    SessionInterceptor,
    AuthenticatedGuard,
    SessionSockets,
    SessionHealthIndicator,
    CsrfService,
    CsrfGuard,
    { provide: APP_GUARD, useClass: SessionLoaderGuard },
    { provide: APP_INTERCEPTOR, useExisting: SessionInterceptor },
    // Before Nest builds its routes, which is before `onModuleInit`.
    { provide: 'nest-session:fast-path', useFactory: installFastPath },
  ],
  exports: [
    SESSION_OPTIONS,
    SESSION_STORE,
    SessionManager,
    SessionMiddleware,
    SessionInterceptor,
    SessionSockets,
    SessionHealthIndicator,
    AuthenticatedGuard,
    CsrfService,
    CsrfGuard,
  ],
})
export class SessionModule extends ConfigurableModuleClass implements OnModuleInit, OnApplicationBootstrap {
  constructor(@Inject(HttpAdapterHost) private readonly host: HttpAdapterHost) {
    super();
  }

  /** With options; without, from the environment (see `sessionConfig`). */
  static override forRoot(options?: SessionModuleOptions): DynamicModule {
    return options === undefined ? this.forRootAsync(sessionConfig.asProvider()) : super.forRoot(options);
  }

  /** With `useFactory`, `useClass` or `useExisting`; also `forRootAsync(sessionConfig.asProvider())`. */
  static override forRootAsync(options: typeof ASYNC_OPTIONS_TYPE): DynamicModule {
    return super.forRootAsync(options);
  }

  onModuleInit(): void {
    const { httpAdapter } = this.host;
    if (!httpAdapter) return;
    const [adapter, instance, server] = [
      httpAdapter.getType(),
      httpAdapter.getInstance(),
      httpAdapter.getHttpServer(),
    ];
    if (adapter === 'express') prepareExpress(instance, server);
    if (adapter === 'fastify') prepareFastify(instance, server);
  }

  /** Gateways have been bound by now, and with them the server's upgrade listeners. */
  onApplicationBootstrap(): void {
    rememberUpgrades(this.host.httpAdapter?.getHttpServer());
  }
}
