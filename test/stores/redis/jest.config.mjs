import base from '../../jest.config.mjs';

/** What needs real Redis servers, which it starts itself: `npm run test:redis`. */
export default {
  ...base,
  rootDir: '../../..',
  testMatch: ['<rootDir>/test/stores/redis/*.spec.ts'],
  // A server that a failed test has left behind must not keep the process.
  forceExit: true,
  testTimeout: 60_000,
  globalSetup: '<rootDir>/test/stores/redis/support/require-redis.mjs',
};
