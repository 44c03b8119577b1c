// One variant, in a process of its own. run.mjs starts it; by hand it is something to profile:
//
//     node --cpu-prof test/bench/server.mjs '{"framework":"fastify","library":"nest-session","store":"memory"}'
//
// `curl -i …/create` gives a cookie, `wrk -c16 -H 'Cookie: …' …/read` loads it, and Ctrl-C ends it and writes the profile.
import 'reflect-metadata';
import { Controller, Get, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { NAME } from './libraries/shared.mjs';

const variant = JSON.parse(process.argv[2]);
const { library } = await import(`./libraries/${variant.library}.mjs`);
const { imports = [], providers = [], handlers, prepare, close } = await library(variant);

class Routes {
  unread() {
    return NAME;
  }
}
decorate(Routes, 'unread', [Get('unread')], []);
for (const [name, { takes = [], decorators = [], answer }] of Object.entries(handlers)) {
  Routes.prototype[name] = answer;
  decorate(Routes, name, [Get(name), ...decorators], takes);
}
Controller()(Routes);

// oxlint-disable-next-line typescript/no-extraneous-class -- a Nest module is a decorated class, empty as a rule
class Root {}
Module({ imports, providers, controllers: [Routes] })(Root);

const adapter = variant.framework === 'fastify' ? new FastifyAdapter() : new ExpressAdapter();
const app = await NestFactory.create(Root, adapter, { logger: ['error', 'fatal'], abortOnError: false });
await prepare?.(app);
await app.listen(0, '127.0.0.1');

const { port } = app.getHttpServer().address();

if (process.send) {
  // Whoever measures asks for these before and after a window, not within.
  process.on('message', () => process.send({ cpu: process.cpuUsage() }));
  process.on('disconnect', async () => {
    await app.close();
    await close?.();
  });
  process.send({ port });
} else {
  process.on('SIGINT', () => process.exit());
  console.log(`http://127.0.0.1:${port}`);
}

/** What a compiler makes of decorators on a method and its parameters. */
function decorate(target, name, decorators, parameters) {
  parameters.forEach((parameter, index) => parameter(target.prototype, name, index));
  const descriptor = Object.getOwnPropertyDescriptor(target.prototype, name);
  for (const decorator of decorators) decorator(target.prototype, name, descriptor);
}
