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

/** What each `SESSION_DRIVER` builds. The stores with a sub-path of their own are loaded when they are asked for. */
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

/** Which variable each option comes from, so that an error names what the operator wrote. */
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
 * The session's options from the environment, as a `@nestjs/config` namespace: what `SessionModule.forRoot()` uses
 * when it is given none, and what `SessionModule.forRootAsync(sessionConfig.asProvider())` takes.
 *
 * An unknown driver or an unusable value throws {@link SessionConfigurationError} with the variable's name. Without
 * `SESSION_SECRET` a random one is used and a warning logged; under `NODE_ENV=production` the boot stops.
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
      'SESSION_SECRET is not set. Using a random one: every session ends when this process does.',
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

/** A variable's value; one that is set to nothing counts as not set. */
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
      'it is not set. In production it must be: "openssl rand -base64 32" makes one',
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

/** Whatever is wrong with an option is wrong with the variable it came from. */
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
