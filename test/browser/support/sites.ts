import type { Type } from '@nestjs/common';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { CsrfService, sessionConfig, type SessionModuleOptions } from 'nest-session';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { generate } from 'selfsigned';
import { type Adapter, SECRET } from '../../support/app.js';

/** A certificate for 127.0.0.1 and localhost, made for this run. */
const { private: key, cert } = await generate([{ name: 'commonName', value: 'localhost' }], {
  keyType: 'ec',
  algorithm: 'sha256',
  extensions: [
    {
      name: 'subjectAltName',
      altNames: [
        { type: 2, value: 'localhost' },
        { type: 7, ip: '127.0.0.1' },
      ],
    },
  ],
});

export interface Setup {
  https?: boolean;
  /** CsrfGuard lets everything pass, as if it were not there. */
  unguarded?: boolean;
  /** Allows every origin everything, cookies included: the worst that CORS can be set to. */
  cors?: boolean;
  cookie?: SessionModuleOptions['cookie'];
  /** On every response. */
  headers?: Record<string, string>;
}

export interface Site {
  readonly url: string;
  close(): Promise<void>;
}

/** A sample's module as an application on a free port of 127.0.0.1. */
export async function serveSample(adapter: Adapter, module: Type, setup: Setup = {}): Promise<Site> {
  const testing = await Test.createTestingModule({ imports: [module] })
    .overrideProvider(sessionConfig.KEY)
    .useValue({ secret: SECRET, cookie: setup.cookie } satisfies SessionModuleOptions)
    .compile();
  if (setup.unguarded) testing.get(CsrfService).verify = () => Promise.resolve();
  const options = { logger: false, abortOnError: false } as const;
  const tls = setup.https ? { key, cert } : undefined;
  const app =
    adapter === 'fastify'
      ? testing.createNestApplication(new FastifyAdapter(tls && { https: tls }), options)
      : testing.createNestApplication(new ExpressAdapter(), { ...options, httpsOptions: tls });
  if (setup.cors) app.enableCors({ origin: true, credentials: true });
  app.use((_: unknown, response: ServerResponse, next: () => void) => {
    for (const [name, value] of Object.entries(setup.headers ?? {})) response.setHeader(name, value);
    next();
  });
  await app.listen(0, '127.0.0.1');
  const server = app.getHttpServer() as Server;
  return {
    url: `${setup.https ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.closeAllConnections();
      return app.close();
    },
  };
}

/**
 * An attacker's site, on a port of its own: by its address another origin on the same site as ours, by the name
 * `localhost` another site. Its page posts a form to the address in `?to=` with the fields in the rest of the query.
 */
export type Attacker = Awaited<ReturnType<typeof serveAttacker>>;

export async function serveAttacker({ https = false } = {}) {
  const server = https ? createTlsServer({ key, cert }) : createServer();
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const { searchParams } = new URL(request.url as string, 'http://attacker');
    const fields = [...searchParams].map(([name, value]) => `<input name="${name}" value="${value}">`);
    response.setHeader('Content-Type', 'text/html');
    response.end(
      `<form method="post" action="${searchParams.get('to')}">${fields.join('')}<button>Win!</button></form>`,
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = (host: string) =>
    `${https ? 'https' : 'http'}://${host}:${(server.address() as AddressInfo).port}`;
  return {
    sameSite: origin('127.0.0.1'),
    crossSite: origin('localhost'),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
