import base from '../jest.config.mjs';

/** What takes minutes: `npm run test:exhaustive`. */
export default { ...base, rootDir: '../..', testMatch: ['<rootDir>/test/exhaustive/*.spec.ts'] };
