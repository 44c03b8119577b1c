import { Module } from '@nestjs/common';
import { ConfigModule, type ConfigType } from '@nestjs/config';
import { APP_GUARD } from '@nestjs/core';
import { CsrfGuard, sessionConfig, SessionModule } from 'nest-session';
import { FilesController } from './files.controller.js';
import { SessionController } from './session.controller.js';
import { type Todo, TodosController } from './todos.controller.js';
import { UsersService } from './users.service.js';

/** What this app keeps in the session besides `userId`. */
declare module 'nest-session' {
  interface SessionData {
    name?: string;
    todos?: Todo[];
  }
}

@Module({
  imports: [
    SessionModule.forRootAsync({
      imports: [ConfigModule.forFeature(sessionConfig)],
      inject: [sessionConfig.KEY],
      useFactory: (environment: ConfigType<typeof sessionConfig>) => ({
        ...environment,
        // Scripts find the token in the cookie XSRF-TOKEN, see public/app.js.
        csrf: { cookie: true },
        defaults: { todos: [] },
      }),
    }),
  ],
  controllers: [FilesController, SessionController, TodosController],
  // Every route that changes something asks for the token; none can be forgotten.
  providers: [UsersService, { provide: APP_GUARD, useExisting: CsrfGuard }],
})
export class AppModule {}
