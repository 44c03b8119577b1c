import { Controller, Get, Query } from '@nestjs/common';
import { Session } from 'nest-session';
import { type Browser, onBothAdapters, type Served, serve, sessionCookies } from '../support/app.js';

@Controller()
class RacesController {
  @Get('set')
  set(@Session() session: Session<any>, @Query() values: object) {
    session.update({ ...values });
    return { ok: true };
  }

  @Get('delete')
  delete(@Session() session: Session<any>, @Query('key') key: string) {
    session.delete(key);
  }

  @Get('flash')
  flash(@Session() session: Session<any>, @Query('text') text: string) {
    session.flash.set('note', text);
  }

  @Get('look')
  look(@Session() session: Session<any>) {
    return { data: session.data, isNew: session.isNew };
  }

  @Get('regenerate')
  async regenerate(@Session() session: Session<any>) {
    await session.regenerate();
    return session.id;
  }

  @Get('login')
  async login(@Session() session: Session<any>, @Query('user') user: string) {
    await session.login(user);
  }

  @Get('become')
  become(@Session() session: Session<any>, @Query('user') user: string) {
    session.set('userId', user);
  }

  @Get('logout')
  async logout(@Session() session: Session<any>) {
    await session.logout();
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;

  beforeAll(async () => {
    served = await serve(adapter, { controllers: [RacesController] });
  });
  afterAll(() => served.close());
  beforeEach(async () => {
    await served.sessions.clear();
    browser = served.browser();
    await browser.get('/set?first=1');
    served.store.drain();
  });

  /** Everything a client with this cookie can see. */
  async function visible(client: Browser): Promise<Record<string, unknown>> {
    return (await client.get('/look')).body.data;
  }

  describe('two parallel requests', () => {
    it('that write different keys keep both', async () => {
      const slow = served.store.hold('commit');
      const one = browser.copy().begin('/set?a=1');
      await slow.reached;
      await browser.get('/set?b=2');
      slow.release();
      await one;
      expect(await visible(browser)).toEqual({ first: '1', a: '1', b: '2' });
    });

    it('of which one deletes a key and the other writes another keep both changes', async () => {
      const slow = served.store.hold('commit');
      const one = browser.copy().begin('/delete?key=first');
      await slow.reached;
      await browser.get('/set?b=2');
      slow.release();
      await one;
      expect(await visible(browser)).toEqual({ b: '2' });
    });

    it('that both write the same key: the later commit wins whole', async () => {
      const slow = served.store.hold('commit');
      const one = browser.copy().begin('/set?a=slow');
      await slow.reached;
      await browser.get('/set?a=quick');
      slow.release();
      await one;
      expect(await visible(browser)).toEqual({ first: '1', a: 'slow' });
    });
  });

  describe('a slow request that writes', () => {
    it.each(['/set?late=1', '/flash?text=late', '/become?user=mallory'])(
      'cannot bring back a session that logs out meanwhile: %s',
      async (path) => {
        const before = browser.copy();
        const slow = served.store.hold(path.startsWith('/become') ? 'rotate' : 'commit');
        const late = browser.copy().begin(path);
        await slow.reached;
        await browser.get('/logout');
        slow.release();
        const response = await late;
        expect(sessionCookies(response)).toEqual([]);
        expect(await visible(before)).toEqual({});
        expect(await served.sessions.count()).toBe(0);
      },
    );

    it('leaves nothing under the old id, and nothing under the new one, when the id changes meanwhile', async () => {
      const before = browser.copy();
      const slow = served.store.hold('commit');
      const late = browser.copy().begin('/set?late=1');
      await slow.reached;
      await browser.get('/regenerate');
      slow.release();
      expect(sessionCookies(await late)).toEqual([]);
      expect(await visible(before)).toEqual({});
      expect(await visible(browser)).toEqual({ first: '1' });
      expect(await served.sessions.count()).toBe(1);
    });

    it('cannot bring back a session that was revoked, even by an extension of its time', async () => {
      served.clock.pass(80_000);
      const slow = served.store.hold('touch');
      const late = browser.begin('/look');
      await slow.reached;
      await served.sessions.clear();
      slow.release();
      expect(sessionCookies(await late)).toEqual([]);
      expect(await served.sessions.count()).toBe(0);
    });
  });

  describe('two parallel rotations', () => {
    it('have one winner; the loser gets no cookie and leaves no record', async () => {
      const slow = served.store.hold('rotate');
      const loser = browser.copy().begin('/regenerate');
      await slow.reached;
      await browser.get('/regenerate');
      slow.release();
      expect(sessionCookies(await loser)).toEqual([]);
      expect(await visible(browser)).toEqual({ first: '1' });
      expect(await served.sessions.count()).toBe(1);
    });

    it('that are logins both let their user in; the later one without anything of the old session', async () => {
      const twin = browser.copy();
      const slow = served.store.hold('rotate');
      const later = twin.begin('/login?user=bob');
      await slow.reached;
      await browser.get('/login?user=alice');
      slow.release();
      await later;
      expect(await visible(browser)).toEqual({ first: '1', userId: 'alice' });
      expect(await visible(twin)).toEqual({ userId: 'bob' });
    });
  });

  it('a second, late logout does not delete the cookie of a login in between', async () => {
    const slow = served.store.hold('destroy');
    const late = browser.copy().begin('/logout');
    await slow.reached;
    await browser.get('/logout');
    await browser.get('/login?user=alice');
    slow.release();
    expect(sessionCookies(await late)).toEqual([]);
    expect(await visible(browser)).toEqual({ userId: 'alice' });
  });

  it('a cookie whose session is unknown is left alone, for a newer one may be under way', async () => {
    await served.sessions.clear();
    const response = await browser.get('/look');
    expect(response.body).toEqual({ data: {}, isNew: true });
    expect(sessionCookies(response)).toEqual([]);
  });

  it('an unknown id is never adopted: a write begins a session of its own', async () => {
    const before = browser.cookie;
    await served.sessions.clear();
    await browser.get('/set?a=1');
    expect(browser.cookie).not.toBe(before);
    expect(await visible(browser)).toEqual({ a: '1' });
  });
});
