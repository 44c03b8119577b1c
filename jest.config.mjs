/** What every project shares. */
const base = {
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  moduleNameMapper: {
    '^nest-session$': '<rootDir>/lib/index.ts',
    '^nest-session/redis$': '<rootDir>/lib/stores/redis/index.ts',
    '^nest-session/solidb$': '<rootDir>/lib/stores/solidb/index.ts',
    '^nest-session/testing$': '<rootDir>/lib/testing/index.ts',
    '^(\\.{1,2}/.*)\\.js$': '$1',
  },
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: {
          target: 'es2022',
          parser: { syntax: 'typescript', decorators: true },
          transform: { legacyDecorator: true, decoratorMetadata: true },
          keepClassNames: true,
        },
        module: { type: 'es6' },
      },
    ],
  },
  modulePathIgnorePatterns: ['<rootDir>/dist', '<rootDir>/sample/.*/dist'],
};

/** What goes through a route, once more without the fast path: the interceptor alone has to be enough. */
const interceptorAlone = [
  'nest/contexts',
  'nest/graphql',
  'nest/one-load',
  'nest/websocket',
  'http/response',
  'session/commit',
  'session/flash',
  'session/lifecycle',
  'session/store-failure',
];

/** The scripts of package.json choose among these with --selectProjects. */
const projects = [
  {
    displayName: 'specs',
    testMatch: ['<rootDir>/test/**/*.spec.ts'],
    testPathIgnorePatterns: ['/node_modules/', '<rootDir>/test/(stores/redis|exhaustive|browser)/'],
  },
  {
    displayName: 'interceptor-alone',
    testMatch: interceptorAlone.map((spec) => `<rootDir>/test/${spec}.spec.ts`),
    setupFiles: ['<rootDir>/test/interceptor-alone/setup.ts'],
  },
  {
    // Needs real Redis servers, which it starts itself.
    displayName: 'redis',
    testMatch: ['<rootDir>/test/stores/redis/*.spec.ts'],
    globalSetup: '<rootDir>/test/stores/redis/support/require-redis.mjs',
  },
  {
    // Takes minutes.
    displayName: 'exhaustive',
    testMatch: ['<rootDir>/test/exhaustive/*.spec.ts'],
  },
  {
    displayName: 'browser',
    testMatch: ['<rootDir>/test/browser/*.spec.ts'],
    globalSetup: '<rootDir>/test/browser/support/chromium.mjs',
  },
];

export default {
  // No test is about being quick: what hangs is found all the same, on a busy machine as well.
  testTimeout: 60_000,
  projects: projects.map((project) => ({ ...base, ...project })),
};
