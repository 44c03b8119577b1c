import { Controller, Get, Module } from '@nestjs/common';
import { Session, SessionModule } from 'nest-session';
import { KeyValueStore } from './key-value.store.js';
import { InMemoryKeyValues } from './key-values.js';

@Controller()
class VisitsController {
  @Get()
  visit(@Session() session: Session<{ visits: number }>) {
    return { visits: session.increment('visits') };
  }
}

@Module({
  imports: [
    SessionModule.forRoot({
      secret: process.env.SESSION_SECRET ?? 'thirty-two bytes for development',
      store: new KeyValueStore(new InMemoryKeyValues()),
    }),
  ],
  controllers: [VisitsController],
})
export class AppModule {}
