import { fileURLToPath } from 'node:url';
import root from '../jest.config.mjs';

export default {
  ...root,
  rootDir: fileURLToPath(new URL('../..', import.meta.url)),
  testMatch: ['<rootDir>/test/browser/*.spec.ts'],
  globalSetup: '<rootDir>/test/browser/support/chromium.mjs',
  testTimeout: 30_000,
  maxWorkers: 2,
};
