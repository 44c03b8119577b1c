import { Module } from '@nestjs/common';
import { ConfigModule, type ConfigType } from '@nestjs/config';
import { sessionConfig, SessionModule } from 'nest-session';
import { AuthController } from './auth.controller.js';
import { DevicesController } from './devices.controller.js';
import { PagesController } from './pages.controller.js';
import { PreferencesController } from './preferences.controller.js';
import { UsersService } from './users.service.js';

/** What this app keeps in the session besides `userId`. */
declare module 'nest-session' {
  interface SessionData {
    theme?: 'light' | 'dark';
    name?: string;
  }
}

@Module({
  imports: [
    // The secret, the store and the cookie come from SESSION_* variables, the rest is the app's own business.
    SessionModule.forRootAsync({
      imports: [ConfigModule.forFeature(sessionConfig)],
      inject: [sessionConfig.KEY],
      useFactory: (environment: ConfigType<typeof sessionConfig>) => ({
        ...environment,
        auth: { loginPath: '/login' },
        defaults: { theme: 'light' },
      }),
    }),
  ],
  controllers: [PagesController, AuthController, DevicesController, PreferencesController],
  providers: [UsersService],
})
export class AppModule {}
