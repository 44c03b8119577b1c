import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { AddressInfo } from 'node:net';
import { AppModule } from './app.module.js';

const adapter = process.argv.includes('--fastify') ? new FastifyAdapter() : new ExpressAdapter();
const app = await NestFactory.create(AppModule, adapter, { logger: ['warn', 'error', 'fatal'] });
app.enableShutdownHooks(['SIGINT', 'SIGTERM']);

const port = Number(process.env.PORT || 3000);
try {
  await app.listen(port, '0.0.0.0');
  const address = app.getHttpServer().address() as AddressInfo;
  console.log(`Open http://localhost:${address.port} and sign in as alice with the password wonderland.`);
} catch (error) {
  const inUse = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
  console.error(
    inUse ? `Port ${port} is in use. Choose another: PORT=3001 node sample/spa/dist/main.js` : error,
  );
  process.exit(1);
}
