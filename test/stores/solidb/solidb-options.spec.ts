import { inspect } from 'node:util';
import { SessionConfigurationError } from 'nest-session';
import { SolidbStore, type SolidbStoreOptions } from 'nest-session/solidb';

const good = { url: 'https://db.example.com:6745', database: 'app', apiKey: 'sk_5ecret' };

const attempt = (options: Record<string, unknown>): SolidbStore =>
  new SolidbStore({ ...good, ...options } as SolidbStoreOptions);

/** The error that options lead to; it never shows a secret. */
const refusal = (options: Record<string, unknown>): SessionConfigurationError => {
  try {
    attempt(options);
  } catch (error) {
    expect(error).toBeInstanceOf(SessionConfigurationError);
    expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(/5ecret|pa55word/);
    return error as SessionConfigurationError;
  }
  throw new Error('Nothing was refused.');
};

const user = { apiKey: undefined, username: 'app', password: 'pa55word' };

describe('the options of SolidbStore', () => {
  it.each<[string, Record<string, unknown>]>([
    ['an API key', {}],
    ['a user', user],
    ['a path, behind a proxy', { url: 'https://example.com/db/' }],
    ['plain HTTP on this machine, without credentials', { url: 'http://localhost:6745', apiKey: undefined }],
    ['the same by number', { url: 'http://127.0.0.1:6745', apiKey: undefined }],
    ['the same by the other number', { url: 'http://[::1]:6745', apiKey: undefined }],
    [
      'plain HTTP elsewhere, knowingly',
      { url: 'http://db.internal', apiKey: undefined, allowInsecure: true },
    ],
    ['a time limit as text', { timeout: '500ms' }],
    ['a time limit in seconds', { timeout: 0.5 }],
  ])('take %s', (_, options) => {
    expect(() => attempt(options)).not.toThrow();
  });

  it.each<[string, RegExp, Record<string, unknown>]>([
    ['url', /address such as https:/, { url: undefined }],
    ['url', /address such as https:/, { url: 'db.example.com:6745' }],
    ['url', /address such as https:/, { url: 'localhost:6745' }],
    ['url', /address such as https:/, { url: 'solidb://db.example.com' }],
    ['url', /address such as https:/, { url: 'https//app:pa55word@db.example.com' }],
    ['url', /without credentials/, { url: 'https://app:pa55word@db.example.com' }],
    ['url', /without credentials, query/, { url: 'https://db.example.com?key=5ecret' }],
    [
      'url',
      /plain HTTP to another machine.*Use https, or set allowInsecure/,
      { url: 'http://db.example.com' },
    ],
    ['url', /plain HTTP to another machine/, { url: 'http://127.0.0.1.example.com' }],
    ['url', /plain HTTP to another machine/, { url: 'http://localhost.example.com' }],
    ['url', /plain HTTP to another machine/, { url: 'http://128.0.0.1' }],
    ['apiKey', /not set, nor username and password/, { apiKey: undefined }],
    ['apiKey', /beside username or password/, { ...user, apiKey: 'sk_5ecret' }],
    ['apiKey', /text without spaces/, { apiKey: 'sk 5ecret' }],
    ['apiKey', /text without spaces/, { apiKey: 'sk_5ecret\r\nX-Evil: 1' }],
    ['apiKey', /text without spaces/, { apiKey: '' }],
    ['password', /come together/, { ...user, password: undefined }],
    ['password', /come together/, { ...user, password: '' }],
    ['username', /come together/, { ...user, username: undefined }],
    ['database', /got undefined, but it takes a letter/, { database: undefined }],
    ['database', /got '\.\.\/x'/, { database: '../x' }],
    ['collection', /got 'a b'/, { collection: 'a b' }],
    ['collection', /got 'my-sessions'.*letters, digits or underscores/, { collection: 'my-sessions' }],
    ['timeout', /got 'soon'/, { timeout: 'soon' }],
    ['timeout', /got 0/, { timeout: 0 }],
    ['sweepInterval', /got -1/, { sweepInterval: -1 }],
  ])('%s: %s', (option, says, options) => {
    const error = refusal(options);
    expect(error.option).toBe(`SolidbStore ${option}`);
    expect(error.message).toMatch(says);
  });
});
