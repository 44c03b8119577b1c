import base from '../jest.config.mjs';

/** What goes through a route, once more without the fast path: the interceptor alone has to be enough. */
const specs = [
  'commit',
  'contexts',
  'flash',
  'graphql',
  'lifecycle',
  'one-load',
  'response',
  'store-failure',
  'websocket',
];

export default {
  ...base,
  rootDir: '../..',
  displayName: 'interceptor alone',
  setupFiles: ['<rootDir>/test/interceptor-alone/setup.ts'],
  testMatch: specs.map((name) => `<rootDir>/test/${name}.spec.ts`),
};
