import { Body, Controller, Delete, Get, Header, HttpCode, Post, UnauthorizedException } from '@nestjs/common';
import { Session } from 'nest-session';
import { UsersService } from './users.service.js';

@Controller('api/session')
export class SessionController {
  constructor(private readonly users: UsersService) {}

  /** The first thing the page asks; the answer brings the cookie XSRF-TOKEN along. */
  @Get()
  @Header('Cache-Control', 'no-store')
  whoAmI(@Session() session: Session) {
    return { name: session.get('name') ?? null };
  }

  @Post()
  @HttpCode(200)
  async login(
    @Session() session: Session,
    @Body('username') username: unknown,
    @Body('password') password: unknown,
  ) {
    const user = await this.users.authenticate(username, password);
    if (!user) throw new UnauthorizedException('Invalid credentials');
    await session.login(user.id, { name: user.name });
    return { name: user.name };
  }

  @Delete()
  @HttpCode(204)
  async logout(@Session() session: Session) {
    await session.logout();
  }
}
