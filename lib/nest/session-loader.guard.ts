import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { hasRequest, locate } from '../http/request-context.js';
import { SessionManager } from '../session/session-manager.js';
import { skipsSession } from './session.decorators.js';

/**
 * Opens the session before any guard bound with `@UseGuards` runs, so that it finds `request.session`. Refuses
 * nobody. `SessionModule` registers it for every route.
 */
@Injectable()
export class SessionLoaderGuard implements CanActivate {
  constructor(private readonly sessions: SessionManager) {}

  canActivate(context: ExecutionContext): boolean | Promise<boolean> {
    if (!hasRequest(context) || skipsSession(context)) return true;
    const session = this.sessions.openNow(locate(context));
    return session instanceof Promise ? session.then(() => true) : true;
  }
}
