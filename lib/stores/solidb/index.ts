export { SolidbStore } from './solidb.store.js';
export type { SolidbStoreOptions } from './solidb-options.js';
