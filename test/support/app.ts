import { type INestApplication, Module, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { AddressInfo } from 'node:net';
import { Logger, type ModuleMetadata } from '@nestjs/common';
import { SessionManager, SessionModule, type SessionModuleOptions } from 'nest-session';
import request, { type Response } from 'supertest';
import { HeldStore } from './held-store.js';

export type Adapter = 'express' | 'fastify';
/** Every scenario runs on both. */
export const adapters: readonly Adapter[] = ['express', 'fastify'];

export const SECRET = 'a secret of thirty-two bytes or more, for tests';

/** A clock that stands until it is moved. */
export class Clock {
  now = Date.UTC(2026, 0, 1);
  readonly read = (): number => this.now;
  pass(seconds: number): void {
    this.now += seconds * 1000;
  }
}

interface Setup extends Pick<ModuleMetadata, 'imports' | 'providers'> {
  controllers: Type[];
  options?: Partial<SessionModuleOptions>;
  trustProxy?: boolean;
  prepare?: (app: INestApplication) => unknown;
  /** The root module, when the test brings its own. */
  root?: Type;
}

/** An application listening on a free port. */
export class Served {
  constructor(
    readonly app: INestApplication,
    readonly url: string,
    readonly store: HeldStore,
    readonly clock: Clock,
    readonly log: string[],
  ) {}

  /** One request after the other without a memory. */
  get http() {
    return request(this.url);
  }

  get sessions(): SessionManager {
    return this.app.get(SessionManager);
  }

  /** A client that keeps cookies by name and pays no heed to their attributes, expired ones aside. */
  browser(): Browser {
    return new Browser(this.url);
  }

  async close(): Promise<void> {
    await this.app.close();
  }
}

export class Browser {
  readonly cookies = new Map<string, string>();

  constructor(private readonly url: string) {}

  get(path: string) {
    return this.#send('get', path);
  }

  post(path: string, body?: object) {
    const sent = this.#send('post', path);
    return body ? sent.send(body) : sent;
  }

  /** A GET that is sent now, for a test that does something else before it awaits the answer. */
  begin(path: string): Promise<Response> {
    return Promise.resolve(this.get(path));
  }

  /** The session's cookie, by whichever name it goes. */
  get cookie(): string | undefined {
    for (const [name, value] of this.cookies) if (name.endsWith('session_id')) return `${name}=${value}`;
    return undefined;
  }

  copy(): Browser {
    const twin = new Browser(this.url);
    for (const [name, value] of this.cookies) twin.cookies.set(name, value);
    return twin;
  }

  #send(method: 'get' | 'post', path: string) {
    const sent = request(this.url)
      [method](path)
      .redirects(0)
      .ok(() => true);
    if (this.cookies.size > 0) {
      sent.set('Cookie', [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; '));
    }
    sent.on('response', (response: { headers: Record<string, unknown> }) => {
      for (const line of setCookies(response)) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(line) as RegExpExecArray;
        if (/;\s*max-age=0/i.test(line)) this.cookies.delete(name);
        else this.cookies.set(name, value);
      }
    });
    return sent;
  }
}

/** The Set-Cookie lines of a response. */
export function setCookies(response: { headers: Record<string, unknown> }): string[] {
  return [(response.headers['set-cookie'] as string[] | undefined) ?? []].flat();
}

/** The Set-Cookie lines of the session. */
export function sessionCookies(response: { headers: Record<string, unknown> }): string[] {
  return setCookies(response).filter((line) => /^(__Host-)?session_id=/.test(line));
}

export async function serve(adapter: Adapter, setup: Setup): Promise<Served> {
  const clock = new Clock();
  const store = new HeldStore(setup.options?.store, clock.read);
  const log: string[] = [];

  @Module({
    imports: [
      SessionModule.forRoot({ secret: SECRET, clock: clock.read, ...setup.options, store }),
      ...(setup.imports ?? []),
    ],
    controllers: setup.controllers,
    providers: setup.providers,
  })
  class Root {}

  const app = await createApp(adapter, setup.root ?? Root, { trustProxy: setup.trustProxy, log });
  await setup.prepare?.(app);
  await app.listen(0, '127.0.0.1');
  const { port } = app.getHttpServer().address() as AddressInfo;
  return new Served(app, `http://127.0.0.1:${port}`, store, clock, log);
}

/** An application on the given adapter, not yet listening; what it logs goes into `log`. */
export async function createApp(
  adapter: Adapter,
  root: Type,
  { trustProxy = false, log = [] as string[] } = {},
): Promise<INestApplication> {
  const note = (...words: unknown[]) => void log.push(words.map(String).join(' '));
  const logger = { log: () => {}, warn: note, error: note, fatal: note };
  Logger.overrideLogger(logger);
  if (adapter === 'fastify') {
    return NestFactory.create<NestFastifyApplication>(root, new FastifyAdapter({ trustProxy }), {
      logger,
      abortOnError: false,
    });
  }
  const app = await NestFactory.create<NestExpressApplication>(root, { logger, abortOnError: false });
  app.set('trust proxy', trustProxy);
  return app;
}

/** Runs the scenario once for each adapter. */
export function onBothAdapters(scenario: (adapter: Adapter) => void): void {
  describe.each(adapters.map((adapter) => [adapter]))('on %s', scenario);
}
