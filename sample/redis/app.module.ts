import { Controller, Get, Module } from '@nestjs/common';
import { Session, SessionModule } from 'nest-session';
import { RedisStore } from 'nest-session/redis';
import type { Cluster, Redis } from 'ioredis';
import { REDIS, RedisModule } from './redis.module.js';

@Controller()
class VisitsController {
  @Get()
  visit(@Session() session: Session<{ visits: number }>) {
    return { visits: session.increment('visits'), process: process.pid };
  }
}

@Module({
  imports: [
    SessionModule.forRootAsync({
      imports: [RedisModule],
      inject: [REDIS],
      useFactory: (client: Redis | Cluster) => ({
        secret: process.env.SESSION_SECRET ?? 'thirty-two bytes for development',
        store: new RedisStore({ client, prefix: 'visits:' }),
      }),
    }),
  ],
  controllers: [VisitsController],
})
export class AppModule {}
