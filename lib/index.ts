export { SessionModule } from './session.module.js';
export type {
  SessionAuthOptions,
  SessionCookieOptions,
  SessionCsrfOptions,
  SessionModuleOptions,
  SessionModuleOptionsFactory,
} from './options/session-module-options.js';
export { sessionConfig } from './session.config.js';

export type { SessionData } from './options/session-data.js';
export { Session, Flash, SkipSession } from './nest/session.decorators.js';
export { FlashMessages } from './session/flash-messages.js';
export { SessionManager } from './session/session-manager.js';
export type { SessionInfo } from './session/session-info.js';
export { SessionHealthIndicator, type SessionHealth } from './nest/session-health.indicator.js';
export { SessionInterceptor } from './nest/session.interceptor.js';
export { SessionMiddleware } from './nest/session.middleware.js';
export { SessionSockets, type SessionSocket } from './nest/session-sockets.js';
export type { CsrfRefusal, SessionEvent } from './session/session-events.js';

export { AuthenticatedGuard, Public, RequireLogin } from './auth/authenticated.guard.js';
export { isLocalPath } from './util/local-path.js';

export { CsrfGuard } from './csrf/csrf.guard.js';
export { CsrfProtect, CsrfToken, SkipCsrf } from './csrf/csrf.decorators.js';
export { CsrfService } from './csrf/csrf.service.js';

export { CookieStore, type CookieStoreOptions } from './stores/cookie/cookie.store.js';
export { FileStore, type FileStoreOptions } from './stores/file/file.store.js';
export { MemoryStore, type MemoryStoreOptions } from './stores/memory/memory.store.js';
export { mergedRecord } from './stores/merged-record.js';
export { InjectSessionStore } from './stores/inject-session-store.decorator.js';
export {
  SESSION_STORE,
  type DeadRecord,
  type SessionDelta,
  type SessionHeader,
  type SessionRecord,
  type SessionStore,
} from './stores/session-store.js';

export {
  SessionConfigurationError,
  SessionNotFoundError,
  SessionStoreUnavailableException,
  SessionStoreUnsupportedError,
  SessionTooLargeError,
  SessionUsageError,
  SessionValueError,
} from './errors.js';
export { CsrfException } from './csrf/csrf.exception.js';
export { LoginRequiredException } from './auth/login-required.exception.js';
