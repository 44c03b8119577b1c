import { Injectable, type NestMiddleware } from '@nestjs/common';
import { locateRequest } from '../http/request-context.js';
import { SessionManager } from '../session/session-manager.js';

/**
 * Opens the session before everything else, for what runs ahead of the guards: other middleware (Passport) and
 * global guards.
 *
 * ```ts
 * configure(consumer: MiddlewareConsumer) { consumer.apply(SessionMiddleware).forRoutes('{*path}'); }
 * ```
 */
@Injectable()
export class SessionMiddleware implements NestMiddleware {
  constructor(private readonly sessions: SessionManager) {}

  async use(request: object, response: object, next: () => void): Promise<void> {
    await this.sessions.openNow(locateRequest(request, response));
    next();
  }
}
