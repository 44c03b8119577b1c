import { Body, Controller, Get, Post, Redirect, UnauthorizedException, UseGuards } from '@nestjs/common';
import { CsrfGuard, Session } from 'nest-session';
import { UsersService } from './users.service.js';

@Controller()
export class AuthController {
  constructor(private readonly users: UsersService) {}

  @Post('login')
  @UseGuards(CsrfGuard)
  @Redirect('/dashboard', 303)
  async login(
    @Session() session: Session,
    @Body('username') username: unknown,
    @Body('password') password: unknown,
  ) {
    const user = await this.users.authenticate(username, password);
    if (!user) {
      session.flash.set('error', 'Invalid credentials');
      return { url: '/login' };
    }
    // Where AuthenticatedGuard turned the visitor away; undefined leaves the dashboard above.
    const url = session.pull('returnTo');
    session.flash.set('notice', 'Welcome back!');
    // Last, so that one step in the store saves all of it under the new id.
    await session.login(user.id, { name: user.name });
    return { url };
  }

  @Post('logout')
  @UseGuards(CsrfGuard)
  @Redirect('/', 303)
  async logout(@Session() session: Session) {
    await session.logout();
    session.flash.set('notice', 'You are signed out.');
  }

  /** Not behind AuthenticatedGuard, which would send a browser to the login page: an API answers 401 to everyone. */
  @Get('api/me')
  me(@Session('userId') userId?: string, @Session('name') name?: string) {
    if (userId === undefined) throw new UnauthorizedException();
    return { userId, name };
  }
}
