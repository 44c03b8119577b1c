import {
  Body,
  Controller,
  Get,
  type MiddlewareConsumer,
  Module,
  type NestModule,
  Param,
  Post,
  UseGuards,
} from '@nestjs/common';
import { Query, Resolver } from '@nestjs/graphql';
import { AuthenticatedGuard, Flash, Session, SessionMiddleware } from 'nest-session';

@Controller()
export class UserController {
  @Post('login/:name')
  async login(@Session() session: Session, @Param('name') name: string) {
    await session.login(name);
    return { id: session.id };
  }

  /** As those do who never call login(). */
  @Post('become/:name')
  become(@Session() session: Session, @Param('name') name: string) {
    session.set('userId', name);
  }

  @Post('note')
  note(@Session() session: Session<any>, @Body() body: { text: string }) {
    session.set('note', body.text);
  }

  @Post('regenerate')
  async regenerate(@Session() session: Session) {
    await session.regenerate();
    return { id: session.id };
  }

  @Post('logout')
  async logout(@Session() session: Session) {
    await session.logout();
  }

  @Get('me')
  me(@Session() session: Session) {
    return { userId: session.userId ?? null };
  }

  @Get('messages')
  messages(@Flash('error') error?: string) {
    return { error: error ?? null };
  }

  @Get('broken')
  broken() {
    throw new Error('broken');
  }

  @Get('private')
  @UseGuards(AuthenticatedGuard)
  secret(@Session() session: Session) {
    return { userId: session.userId };
  }
}

@Resolver()
export class MessagesResolver {
  @Query(() => String, { nullable: true })
  message(@Flash('error') error?: string) {
    return error;
  }
}

@Module({})
export class SessionMiddlewareModule implements NestModule {
  configure(consumer: MiddlewareConsumer) {
    consumer.apply(SessionMiddleware).forRoutes('{*path}');
  }
}
