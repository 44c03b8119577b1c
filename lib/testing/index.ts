export { describeSessionStore, type StoreFactory, type StorePower } from './describe-session-store.js';
