import { Logger } from '@nestjs/common';
import { registerAs } from '@nestjs/config';
import { randomBytes } from 'node:crypto';
import { SessionConfigurationError } from './errors.js';
import { CookieStore } from './stores/cookie/cookie.store.js';
import { FileStore } from './stores/file/file.store.js';
import { MemoryStore } from './stores/memory/memory.store.js';
import type { SessionStore } from './stores/session-store.js';
import { resolveOptions } from './options/resolved-options.js';
import type { SessionCookieOptions, SessionModuleOptions } from './options/session-module-options.js';

/** Makes the store of each `SESSION_DRIVER`. One with a sub-path of its own is loaded when chosen. */
const DRIVERS: Readonly<Record<string, () => SessionStore | Promise<SessionStore>>> = {
  memory: () => new MemoryStore(),
  file: () => new FileStore({ directory: variable('SESSION_FILE_DIRECTORY') }),
  cookie: () => new CookieStore(),
  async redis() {
    const { RedisStore } = await import('./stores/redis/index.js');
    const prefix = variable('SESSION_REDIS_PREFIX');
    return RedisStore.fromUrl(variable('SESSION_REDIS_URL') as string, { prefix });
  },
  async solidb() {
    const { SolidbStore } = await import('./stores/solidb/index.js');
    return new SolidbStore({
      url: variable('SESSION_SOLIDB_URL') as string,
      database: variable('SESSION_SOLIDB_DATABASE') as string,
      collection: variable('SESSION_SOLIDB_COLLECTION'),
      apiKey: variable('SESSION_SOLIDB_API_KEY'),
      username: variable('SESSION_SOLIDB_USERNAME'),
      password: variable('SESSION_SOLIDB_PASSWORD'),
      allowInsecure: flag('SESSION_SOLIDB_ALLOW_INSECURE') === true,
    });
  },
};

/** The variable of each option. An error names the variable, because that is what the operator wrote. */
const VARIABLES: Readonly<Record<string, string>> = {
  secret: 'SESSION_SECRET',
  maxAge: 'SESSION_MAX_AGE',
  absoluteMaxAge: 'SESSION_ABSOLUTE_MAX_AGE',
  'cookie.name': 'SESSION_COOKIE_NAME',
  'cookie.domain': 'SESSION_COOKIE_DOMAIN',
  'cookie.sameSite': 'SESSION_SAMESITE',
  'cookie.secure': 'SESSION_SECURE',
  'cookie.hostPrefix': 'SESSION_HOST_PREFIX',
  'FileStore directory': 'SESSION_FILE_DIRECTORY',
  'RedisStore url': 'SESSION_REDIS_URL',
  'RedisStore prefix': 'SESSION_REDIS_PREFIX',
  'SolidbStore url': 'SESSION_SOLIDB_URL',
  'SolidbStore database': 'SESSION_SOLIDB_DATABASE',
  'SolidbStore collection': 'SESSION_SOLIDB_COLLECTION',
  'SolidbStore apiKey': 'SESSION_SOLIDB_API_KEY',
  'SolidbStore username': 'SESSION_SOLIDB_USERNAME',
  'SolidbStore password': 'SESSION_SOLIDB_PASSWORD',
  'SolidbStore allowInsecure': 'SESSION_SOLIDB_ALLOW_INSECURE',
};

/**
 * Reads the options from the environment, as a `@nestjs/config` namespace. `SessionModule.forRoot()` uses it when
 * called without options. `SessionModule.forRootAsync(sessionConfig.asProvider())` takes it.
 *
 * An unknown driver or an unusable value throws {@link SessionConfigurationError} with the variable's name. Without
 * `SESSION_SECRET`, a random secret is used and a warning is logged; under `NODE_ENV=production` the boot stops.
 */
export const sessionConfig = registerAs('session', async (): Promise<SessionModuleOptions> => {
  const given = secrets();
  const options = await inTermsOfVariables(async () => {
    const read = await fromEnvironment(given ?? randomBytes(32).toString('base64url'));
    resolveOptions(read);
    return read;
  });
  if (!given) {
    new Logger('SessionModule').warn(
      'SESSION_SECRET is not set. A random secret is used: every session ends when this process ends.',
    );
  }
  return options;
});

async function fromEnvironment(secret: string | string[]): Promise<SessionModuleOptions> {
  return {
    secret,
    store: await driver(),
    maxAge: variable('SESSION_MAX_AGE'),
    absoluteMaxAge: variable('SESSION_ABSOLUTE_MAX_AGE'),
    cookie: {
      name: variable('SESSION_COOKIE_NAME'),
      domain: variable('SESSION_COOKIE_DOMAIN'),
      sameSite: variable('SESSION_SAMESITE')?.toLowerCase() as SessionCookieOptions['sameSite'],
      secure: flag('SESSION_SECURE'),
      hostPrefix: flag('SESSION_HOST_PREFIX'),
    },
  };
}

/** The value of a variable. An empty value counts as not set. */
function variable(name: string): string | undefined {
  return process.env[name]?.trim() || undefined;
}

function secrets(): string | string[] | undefined {
  const list = variable('SESSION_SECRET')
    ?.split(',')
    .map((secret) => secret.trim());
  if (list) return list.length === 1 ? list[0] : list;
  if (process.env.NODE_ENV === 'production') {
    throw new SessionConfigurationError(
      'SESSION_SECRET',
      'it is not set. In production it must be; make one with "openssl rand -base64 32"',
    );
  }
  return undefined;
}

async function driver(): Promise<SessionStore> {
  const name = variable('SESSION_DRIVER') ?? 'memory';
  if (Object.hasOwn(DRIVERS, name)) return DRIVERS[name]();
  throw SessionConfigurationError.value('SESSION_DRIVER', name, Object.keys(DRIVERS).join(', '));
}

function flag(name: string): boolean | 'auto' | undefined {
  const value = variable(name)?.toLowerCase();
  switch (value) {
    case undefined:
    case 'auto':
      return value;
    case 'true':
    case '1':
    case 'yes':
      return true;
    case 'false':
    case '0':
    case 'no':
      return false;
    default:
      throw SessionConfigurationError.value(name, value, 'true, false or auto');
  }
}

/** Runs `read`. An error about an option is thrown again under the name of its variable. */
async function inTermsOfVariables<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof SessionConfigurationError)) throw error;
    const [, name, index = ''] = /^(.+?)(\[\d+\])?$/.exec(error.option) ?? [];
    const variableName = VARIABLES[name];
    if (!variableName) throw error;
    throw new SessionConfigurationError(
      variableName + index,
      error.message.slice(`Session option ${error.option}: `.length, -1),
    );
  }
}
