// A server in a process of its own, for clients that mean no good. The spec in exhaustive/ starts it and attacks it.
//
//     node --expose-gc test/model/chaos-server.mjs '{"adapter":"express","store":"memory"}'
import 'reflect-metadata';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { Controller, Get, Module, Res, Sse, StreamableFile } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { of } from 'rxjs';

const { adapter, store: kind, url } = JSON.parse(process.argv[2]);
const { FileStore, MemoryStore, Session, SessionModule } = await import('../../dist/index.js');

const errors = [];
process.on('unhandledRejection', (error) => errors.push(`unhandled rejection: ${error?.stack}`));
process.on('uncaughtException', (error) => errors.push(`uncaught exception: ${error?.stack}`));

/** A store that answers in a later turn of the event loop, as every store does that is not in this process. */
function later(store) {
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const wrapped = {};
  for (const name of ['create', 'load', 'touch', 'commit', 'rotate', 'destroy']) {
    wrapped[name] = async (...args) => {
      await turn();
      const answer = await store[name](...args);
      await turn();
      return answer;
    };
  }
  return wrapped;
}

const stores = {
  memory: () => new MemoryStore(),
  later: () => later(new MemoryStore()),
  file: () => new FileStore({ directory: mkdtempSync(join(tmpdir(), 'nest-session-chaos-')) }),
  redis: async () => (await import('../../dist/stores/redis/index.js')).RedisStore.fromUrl(url),
  solidb: async () => {
    const { SolidbStore } = await import('../../dist/stores/solidb/index.js');
    return new SolidbStore({ url, database: 'app', apiKey: 'sk_test' });
  },
};

class Routes {
  read(session) {
    return { count: session.get('count') ?? 0 };
  }

  write(session) {
    return { count: session.increment('count') };
  }

  object(session) {
    session.get('cart', { items: [] });
    session.set('cart', { items: [1, 2, 3] });
    session.get('cart').items.push(4);
    return session.get('cart');
  }

  async login(session) {
    await session.login('alice');
    return { id: session.id };
  }

  async logout(session) {
    await session.logout();
    return {};
  }

  late(session) {
    void session.save();
    session.increment('count');
    void session.regenerate();
    return {};
  }

  fails(session) {
    session.increment('count');
    throw new Error('a defect');
  }

  file(session) {
    session.increment('count');
    return new StreamableFile(Readable.from(Array.from({ length: 20 }, () => 'x'.repeat(1000))));
  }

  stream(session, response) {
    response.hijack?.();
    const raw = response.raw ?? response;
    session.increment('count');
    raw.write('first,');
    setImmediate(() => {
      session.increment('count');
      raw.write('second,');
      setImmediate(() => {
        session.increment('count');
        raw.end('last');
      });
    });
  }

  events(session) {
    session.increment('count');
    return of({ data: 'one' }, { data: 'two' });
  }
}
for (const name of ['read', 'write', 'object', 'login', 'logout', 'late', 'fails', 'file']) {
  decorate(Routes, name, [Get(name)], [Session()]);
}
decorate(Routes, 'stream', [Get('stream')], [Session(), Res()]);
decorate(Routes, 'events', [Sse('events')], [Session()]);
Controller()(Routes);

// oxlint-disable-next-line typescript/no-extraneous-class -- a Nest module is a decorated class, empty as a rule
class Root {}
Module({
  imports: [
    SessionModule.forRoot({
      secret: 'a secret of thirty-two bytes or more, for tests',
      store: await stores[kind](),
      storeTimeout: 60,
    }),
  ],
  controllers: [Routes],
})(Root);

const app = await NestFactory.create(
  Root,
  adapter === 'fastify' ? new FastifyAdapter() : new ExpressAdapter(),
  {
    logger: false,
  },
);
await app.listen(0, '127.0.0.1');
const { port } = app.getHttpServer().address();

process.on('message', async (question) => {
  if (question !== 'state') return process.disconnect();
  // What the last clients have left behind is gone once their connections are.
  while ((await connections()) > 0) await new Promise((resolve) => setImmediate(resolve));
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  globalThis.gc();
  const resources = process
    .getActiveResourcesInfo()
    .filter((name) => name === 'Timeout' || name === 'Immediate');
  process.send({ errors, heap: process.memoryUsage().heapUsed, resources: resources.length });
});
process.on('disconnect', () => app.close());
process.send({ port });

function connections() {
  return new Promise((resolve) => app.getHttpServer().getConnections((_, number) => resolve(number)));
}

/** What a compiler makes of decorators on a method and its parameters. */
function decorate(target, name, decorators, parameters) {
  parameters.forEach((parameter, index) => parameter(target.prototype, name, index));
  const descriptor = Object.getOwnPropertyDescriptor(target.prototype, name);
  for (const decorator of decorators) decorator(target.prototype, name, descriptor);
}
