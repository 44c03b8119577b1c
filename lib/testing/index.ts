export { describeSessionStore, type StoreFactory, type StorePower } from './describe-session-store.js';
export { readSession, sessionCookie, type CookieSource, type SessionSnapshot } from './sessions.js';
