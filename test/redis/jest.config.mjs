import base from '../jest.config.mjs';

/** What needs real Redis servers, which it starts itself: `npm run test:redis`. */
export default {
  ...base,
  rootDir: '../..',
  testMatch: ['<rootDir>/test/redis/*.spec.ts'],
  globalSetup: '<rootDir>/test/redis/support/require-redis.mjs',
};
