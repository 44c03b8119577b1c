import { SessionManager, type SessionModuleOptions } from 'nest-session';
import { resolveOptions } from '../../lib/options/resolved-options.js';
import { SessionRuntime } from '../../lib/session/session-runtime.js';

/** A SessionManager without an application. */
export function managerOf(options: SessionModuleOptions): SessionManager {
  return new SessionManager(new SessionRuntime(resolveOptions(options)));
}
