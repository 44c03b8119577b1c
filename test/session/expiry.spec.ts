import { Controller, Get } from '@nestjs/common';
import { MemoryStore, Session, type SessionEvent, type SessionModuleOptions } from 'nest-session';
import { type Browser, onBothAdapters, type Served, serve, sessionCookies } from '../support/app.js';

type Any = Session<any>;

@Controller()
class ExpiryController {
  @Get('set')
  set(@Session() session: Any) {
    session.increment('writes');
  }

  @Get('look')
  look(@Session() session: Any) {
    return {
      writes: session.get('writes') ?? null,
      last: session.lastAccessedAt.getTime(),
      expires: session.expiresAt.getTime(),
    };
  }

  @Get('ignore')
  ignore() {
    return {};
  }

  @Get('regenerate')
  async regenerate(@Session() session: Any) {
    await session.regenerate();
  }

  @Get('touch')
  touch(@Session() session: Any) {
    session.touch();
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;
  let events: SessionEvent[];

  async function start(options: Partial<SessionModuleOptions>) {
    served = await serve(adapter, { controllers: [ExpiryController], options });
    browser = served.browser();
    events = [];
    served.sessions.events.subscribe((event) => events.push(event));
    await browser.get('/set');
    served.store.drain();
  }
  afterEach(() => served.close());

  const alive = async (): Promise<boolean> => (await browser.get('/look')).body.writes !== null;

  describe('the idle lifetime', () => {
    it('is enforced to the millisecond, whatever the browser sends', async () => {
      await start({ maxAge: 100, rolling: false });
      served.clock.now += 99_999;
      expect(await alive()).toBe(true);
      served.clock.now += 1;
      expect(await alive()).toBe(false);
    });

    it('starts again with a request, even one that never looks at the session', async () => {
      await start({ maxAge: 100 });
      for (let request = 0; request < 5; request++) {
        served.clock.pass(90);
        await browser.get('/ignore');
      }
      expect(await alive()).toBe(true);
    });

    it('is extended at most once per tenth of itself, record and cookie together', async () => {
      await start({ maxAge: 100 });
      served.clock.now += 9_999;
      const early = await browser.get('/look');
      expect(served.store.drain()).toEqual(['load']);
      expect(sessionCookies(early)).toEqual([]);
      served.clock.now += 1;
      const due = await browser.get('/look');
      expect(served.store.drain()).toEqual(['load', 'touch']);
      expect(sessionCookies(due)).toEqual([expect.stringMatching(/Max-Age=100$/)]);
      served.clock.now += 99_999;
      expect(await alive()).toBe(true);
    });

    it('is extended by a write in the same step', async () => {
      await start({ maxAge: 100 });
      served.clock.pass(50);
      const response = await browser.get('/set');
      expect(served.store.drain()).toEqual(['load', 'commit']);
      expect(sessionCookies(response)).toEqual([expect.stringMatching(/Max-Age=100$/)]);
    });

    it('with rolling: false is extended by writes only', async () => {
      await start({ maxAge: 100, rolling: false });
      served.clock.pass(60);
      await browser.get('/look');
      expect(served.store.drain()).toEqual(['load']);
      await browser.get('/set');
      served.clock.pass(60);
      expect(await alive()).toBe(true);
      served.clock.pass(60);
      expect(await alive()).toBe(false);
    });

    it('is extended by touch() regardless of throttle and rolling', async () => {
      await start({ maxAge: 100, rolling: false });
      served.clock.pass(1);
      const response = await browser.get('/touch');
      expect(served.store.drain()).toEqual(['load', 'touch']);
      expect(sessionCookies(response)).toHaveLength(1);
    });
  });

  it('a new id starts the idle lifetime again, record and cookie together', async () => {
    await start({ maxAge: 100, rolling: false });
    served.clock.pass(90);
    const response = await browser.get('/regenerate');
    expect(sessionCookies(response)).toEqual([expect.stringMatching(/Max-Age=100$/)]);
    served.clock.now += 99_999;
    expect(await alive()).toBe(true);
  });

  describe('the absolute lifetime', () => {
    it('is never extended, however busy the session', async () => {
      await start({ maxAge: 100, absoluteMaxAge: 250 });
      served.clock.pass(90);
      expect(await alive()).toBe(true);
      served.clock.pass(90);
      const near = await browser.get('/set');
      expect(sessionCookies(near)).toEqual([expect.stringMatching(/Max-Age=70$/)]);
      served.clock.now += 69_999;
      expect(await alive()).toBe(true);
      served.clock.now += 1;
      expect(await alive()).toBe(false);
    });

    it('cuts the idle lifetime from the start when it is the shorter', async () => {
      await start({ maxAge: 100, absoluteMaxAge: 30 });
      served.clock.now += 29_999;
      expect(await alive()).toBe(true);
      served.clock.now += 1;
      expect(await alive()).toBe(false);
    });
  });

  it('an expired record is removed together with its cookie, and reported once', async () => {
    await start({ maxAge: 100 });
    const before = browser.copy();
    served.clock.pass(100);
    const response = await browser.get('/ignore');
    expect(sessionCookies(response)).toEqual(['session_id=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0']);
    expect(await served.sessions.sweep()).toBe(0);
    const [created] = events;
    expect(events).toEqual([
      { type: 'created', id: created.id },
      { type: 'expired', id: created.id },
    ]);

    // The record is gone now: whether its cookie is old or forged cannot be told, and a newer one must not suffer.
    expect(sessionCookies(await before.get('/ignore'))).toEqual([]);
    expect(events.at(-1)).toEqual({ type: 'rejected', reason: 'unknown', id: created.id });
  });

  it('an expired session that is written to begins anew in the same response', async () => {
    await start({ maxAge: 100 });
    const before = browser.cookie;
    served.clock.pass(100);
    const response = await browser.get('/set');
    expect(sessionCookies(response)).toHaveLength(1);
    expect(browser.cookie).not.toBe(before);
    expect((await browser.get('/look')).body.writes).toBe(1);
  });

  it('does not depend on a store that leaves expiry to its users', async () => {
    await start({ maxAge: 100, store: new MemoryStore({ clock: () => 0 }) });
    served.clock.pass(100);
    const response = await browser.get('/look');
    expect(response.body.writes).toBeNull();
    expect(sessionCookies(response)).toEqual([expect.stringMatching(/Max-Age=0$/)]);
    expect(await served.sessions.count()).toBe(0);
  });

  it('a commit that finds its session expired meanwhile leaves nothing behind', async () => {
    await start({ maxAge: 100 });
    const held = served.store.hold('commit');
    const late = browser.begin('/set');
    await held.reached;
    served.clock.pass(100);
    held.release();
    expect(sessionCookies(await late)).toEqual([]);
    expect(await served.sessions.count()).toBe(0);
  });

  it('the session tells when it was last used and when it ends', async () => {
    await start({ maxAge: 100 });
    const begun = served.clock.now;
    served.clock.pass(40);
    const look = (await browser.get('/look')).body;
    expect(look).toMatchObject({ last: begun, expires: begun + 100_000 });
    expect((await browser.get('/look')).body).toMatchObject({
      last: begun + 40_000,
      expires: begun + 140_000,
    });
  });
});
