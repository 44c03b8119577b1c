import { Controller, Get, Post, UseGuards } from '@nestjs/common';
import request from 'supertest';
import { AuthenticatedGuard, Session, type SessionModuleOptions } from 'nest-session';
import { readSession, sessionCookie } from 'nest-session/testing';
import { onBothAdapters, type Served, serve } from '../support/app.js';

@Controller()
class AccountController {
  @Get('account')
  @UseGuards(AuthenticatedGuard)
  account(@Session() session: Session<any>) {
    return session.data;
  }

  @Post('save')
  save(@Session() session: Session<any>) {
    session.set('theme', 'dark').flash.set('notice', 'Saved');
  }

  @Post('login')
  async login(@Session() session: Session) {
    await session.login('alice');
  }

  @Post('logout')
  async logout(@Session() session: Session) {
    await session.logout();
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  const start = async (options: Partial<SessionModuleOptions> = {}) => {
    served = await serve(adapter, { controllers: [AccountController], options });
  };
  afterEach(() => served.close());

  it('sessionCookie() makes somebody logged in, with data', async () => {
    await start();
    const cookie = await sessionCookie(served.app, { userId: 'alice', theme: 'dark' });
    const response = await request(served.url).get('/account').set('Cookie', cookie).expect(200);
    expect(response.body).toEqual({ userId: 'alice', theme: 'dark' });
    expect(await served.sessions.count()).toBe(1);
  });

  it('sessionCookie() knows the name and the key that the application uses', async () => {
    await start({ cookie: { name: 'sid', secure: true }, auth: { key: 'account' as never } });
    const cookie = await sessionCookie(served.app, { account: 'bob' } as never);
    expect(cookie).toMatch(/^__Host-sid=/);
    await request(served.url).get('/account').set('Cookie', cookie).expect(200);
  });

  it('readSession() reads back what a response has begun, and consumes nothing', async () => {
    await start();
    const response = await request(served.url).post('/save').expect(201);
    for (let reading = 0; reading < 2; reading++) {
      expect(await readSession(served.app, response)).toEqual({
        id: expect.stringMatching(/^[0-9a-f]{64}$/),
        userId: undefined,
        data: { theme: 'dark' },
        flash: { notice: 'Saved' },
      });
    }
  });

  it('readSession() takes a response of fetch and a Cookie header as well', async () => {
    await start();
    const response = await fetch(`${served.url}/login`, { method: 'POST' });
    expect(await readSession(served.app, response)).toMatchObject({
      userId: 'alice',
      data: { userId: 'alice' },
    });
    const cookie = await sessionCookie(served.app, { userId: 'bob' });
    expect(await readSession(served.app, cookie)).toMatchObject({ userId: 'bob' });
    expect(await readSession(served.app, `other=1; ${cookie}; more=2`)).toMatchObject({ userId: 'bob' });
  });

  it('readSession() finds nothing where there is nothing', async () => {
    await start();
    const cookie = await sessionCookie(served.app, { userId: 'bob' });
    const logout = await request(served.url).post('/logout').set('Cookie', cookie);
    expect(await readSession(served.app, logout)).toBeUndefined();
    expect(await readSession(served.app, cookie)).toBeUndefined();
    expect(await readSession(served.app, 'session_id=forged')).toBeUndefined();
    expect(await readSession(served.app, await request(served.url).get('/account'))).toBeUndefined();
  });
});
