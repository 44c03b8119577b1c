import {
  Controller,
  Get,
  type MiddlewareConsumer,
  Module,
  Post,
  Req,
  Request,
  UseGuards,
} from '@nestjs/common';
import { AuthGuard, PassportModule, PassportStrategy } from '@nestjs/passport';
import passport from 'passport';
import { Strategy } from 'passport-local';
import { AuthenticatedGuard, CsrfGuard, CsrfToken, Session, SessionMiddleware } from 'nest-session';
import { type Browser, type Served, serve } from '../support/app.js';

interface User {
  id: string;
  name: string;
}

class LocalStrategy extends PassportStrategy(Strategy) {
  validate(username: string, password: string): User | false {
    return password === 'wonderland' && { id: username, name: 'Alice' };
  }
}

interface PassportRequest {
  user?: User;
  login(user: User, done: (error?: unknown) => void): void;
  logout(done: (error?: unknown) => void): void;
}

@Controller()
class PassportController {
  /** Passport checks the password; the session is ours. */
  @Post('login')
  @UseGuards(AuthGuard('local'))
  async login(@Request() request: { user: User }, @Session() session: Session) {
    await session.login(request.user.id);
    return { id: request.user.id };
  }

  @Get('private')
  @UseGuards(AuthenticatedGuard)
  show(@Session('userId') userId: string) {
    return { userId };
  }

  /** Passport's own login sessions, over ours. */
  @Post('passport/login')
  @UseGuards(AuthGuard('local'))
  async passportLogin(@Req() request: PassportRequest) {
    await new Promise<void>((resolve, reject) => {
      request.login(request.user as User, (error) => (error ? reject(error) : resolve()));
    });
    return { ok: true };
  }

  @Post('passport/logout')
  async passportLogout(@Req() request: PassportRequest) {
    await new Promise<void>((resolve, reject) => {
      request.logout((error) => (error ? reject(error) : resolve()));
    });
    return { ok: true };
  }

  @Get('passport/me')
  me(@Req() request: PassportRequest, @Session() session: Session<any>) {
    return { user: request.user ?? null, stored: session.get('passport') ?? null };
  }

  @Get('token')
  token(@CsrfToken() token: string) {
    return { token };
  }

  @Post('guarded')
  @UseGuards(CsrfGuard)
  guarded() {
    return {};
  }

  @Get('visit')
  visit(@Session() session: Session<any>) {
    return session.increment('visits');
  }
}

@Module({ imports: [PassportModule], controllers: [PassportController], providers: [LocalStrategy] })
class PassportAppModule {
  configure(consumer: MiddlewareConsumer): void {
    consumer.apply(SessionMiddleware, passport.session()).forRoutes('{*path}');
  }
}

// Passport extends Express's request, and works nowhere else.
describe('Passport through the middleware', () => {
  let served: Served;
  let browser: Browser;

  beforeAll(async () => {
    passport.serializeUser((user, done) => done(null, (user as User).id));
    passport.deserializeUser((id: string, done) => done(null, { id, name: 'Alice' }));
    served = await serve('express', { imports: [PassportAppModule], controllers: [] });
  });
  afterAll(() => served.close());
  beforeEach(() => {
    browser = served.browser();
  });

  const alice = { username: 'alice', password: 'wonderland' };

  it('checks the password, and session.login() does the rest', async () => {
    expect((await browser.post('/login', { ...alice, password: 'wrong' })).status).toBe(401);
    expect((await browser.get('/private')).status).toBe(401);
    expect((await browser.post('/login', alice)).status).toBe(201);
    expect((await browser.get('/private')).body).toEqual({ userId: 'alice' });
  });

  it('keeps its own login sessions in ours, and rotates the id by its own calls', async () => {
    await browser.get('/visit');
    const fixated = browser.copy();
    expect((await browser.post('/passport/login', alice)).status).toBe(201);
    expect((await browser.get('/passport/me')).body).toEqual({
      user: { id: 'alice', name: 'Alice' },
      stored: { user: 'alice' },
    });
    expect((await fixated.get('/passport/me')).body).toEqual({ user: null, stored: null });

    const loggedIn = browser.copy();
    expect((await browser.post('/passport/logout')).status).toBe(201);
    expect((await browser.get('/passport/me')).body.user).toBeNull();
    expect((await loggedIn.get('/passport/me')).body.user).toBeNull();
  });

  it('starts empty with each login and logout of Passport’s own, as Passport counts on', async () => {
    await browser.get('/visit');
    await browser.post('/passport/login', alice);
    expect((await browser.get('/visit')).text).toBe('1');
    await browser.get('/visit');
    await browser.post('/passport/logout');
    expect((await browser.get('/visit')).text).toBe('1');
  });

  it.each(['of a visitor', 'of a session'])(
    'a CSRF token %s from before Passport’s login is refused',
    async (whose) => {
      if (whose === 'of a session') await browser.get('/visit');
      const token = (await browser.get('/token')).body.token as string;
      const before = browser.copy();
      expect((await browser.post('/guarded').set('X-CSRF-Token', token)).status).toBe(201);
      await browser.post('/passport/login', alice);
      for (const [name, value] of before.cookies)
        if (name.endsWith('_visitor')) browser.cookies.set(name, value);
      expect((await browser.post('/guarded').set('X-CSRF-Token', token)).status).toBe(403);
    },
  );
});
