import { NestFactory } from '@nestjs/core';
import { AppModule } from './app.module.js';

const app = await NestFactory.create(AppModule, { logger: ['warn', 'error', 'fatal'] });
app.enableShutdownHooks(['SIGINT', 'SIGTERM']);
await app.listen(process.env.PORT ?? 3000);
console.log(
  `Open ${await app.getUrl()} twice, also through a second copy on another PORT: the visits are counted together.`,
);
