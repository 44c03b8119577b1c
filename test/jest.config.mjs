export default {
  rootDir: '..',
  testEnvironment: 'node',
  // No test is about being quick: what hangs is found all the same, on a busy machine as well.
  testTimeout: 60_000,
  testMatch: ['<rootDir>/test/*.spec.ts'],
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
