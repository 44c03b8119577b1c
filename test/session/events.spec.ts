import { Controller, Get } from '@nestjs/common';
import { Session, type SessionEvent } from 'nest-session';
import { filter, firstValueFrom, map } from 'rxjs';
import { onBothAdapters, type Served, serve } from '../support/app.js';

@Controller()
class EventsController {
  @Get('set')
  set(@Session() session: Session<any>) {
    session.set('a', 1);
    return { id: session.id };
  }

  @Get('login')
  async login(@Session() session: Session<any>) {
    await session.login('alice');
    return { id: session.id };
  }

  @Get('regenerate')
  async regenerate(@Session() session: Session<any>) {
    await session.regenerate();
    return { id: session.id };
  }

  @Get('logout')
  async logout(@Session() session: Session<any>) {
    await session.logout();
  }
}

function fail(problem: string): never {
  throw new Error(problem);
}

onBothAdapters((adapter) => {
  let served: Served;
  let events: SessionEvent[];

  beforeEach(async () => {
    served = await serve(adapter, { controllers: [EventsController] });
    events = [];
    served.sessions.events.subscribe((event) => events.push(event));
  });
  afterEach(() => served.close());

  it('tell a session’s life, in order, with the ids and the user', async () => {
    const browser = served.browser();
    const ids: string[] = [];
    for (const step of ['/set', '/login', '/login', '/regenerate'])
      ids.push((await browser.get(step)).body.id);
    await browser.get('/logout');
    const [first, second, , third] = ids;
    expect(events).toEqual([
      { type: 'created', id: first },
      { type: 'regenerated', id: second, previousId: first, userId: 'alice' },
      { type: 'regenerated', id: third, previousId: second, userId: 'alice' },
      { type: 'destroyed', id: third, userId: 'alice' },
    ]);
  });

  it('tell of a login that begins the session, and of a revocation', async () => {
    const { id } = (await served.browser().get('/login')).body;
    await served.sessions.revoke(id);
    await served.sessions.revoke(id);
    expect(events).toEqual([
      { type: 'created', id, userId: 'alice' },
      { type: 'destroyed', id },
    ]);
  });

  it('tell nothing of what failed', async () => {
    served.store.fail('create', 'rotate', 'destroy');
    await served.browser().get('/login');
    expect(events).toEqual([]);
  });

  it('and neither they, nor the log, nor the store know the secret', async () => {
    const browser = served.browser();
    const secrets: string[] = [];
    for (const step of ['/set', '/login', '/regenerate']) {
      await browser.get(step);
      secrets.push(...((browser.cookie as string).split('=')[1].split('.') as [string, string]));
    }
    const { id } = (await browser.get('/set')).body;
    served.store.fail('load');
    await browser.get('/set');
    served.store.recover();
    const known = JSON.stringify([
      events,
      served.log,
      await served.sessions.get(id),
      [...((await served.store.inner.load(id))?.fields ?? [])],
    ]);
    expect(known).toContain(id);
    for (const secret of secrets) expect(known).not.toContain(secret);
  });

  it('go on to everybody when a subscriber throws, rejects or fails in an operator, which is logged', async () => {
    const rejections: unknown[] = [];
    const note = (error: unknown): void => void rejections.push(error);
    process.on('unhandledRejection', note).on('uncaughtException', note);
    try {
      const { events: stream } = served.sessions;
      const late: string[] = [];
      stream.subscribe(() => fail('thrown'));
      stream.subscribe({ next: () => fail('of an object') });
      stream.subscribe((async () => fail('rejected')) as () => void);
      stream.pipe(map(() => fail('in an operator'))).subscribe();
      stream.pipe(filter(({ type }) => type === 'created')).subscribe(() => fail('behind an operator'));
      stream.pipe(map(({ type }) => type)).subscribe((type) => late.push(type));
      const browser = served.browser();
      await browser.get('/set');
      expect((await browser.get('/logout')).status).toBe(200);
      // RxJS throws from a timer.
      await new Promise((resolve) => setTimeout(resolve, 1));
      expect(late).toEqual(['created', 'destroyed']);
      expect(events.map(({ type }) => type)).toEqual(['created', 'destroyed']);
      const log = served.log.join('\n');
      for (const problem of ['thrown', 'of an object', 'rejected', 'in an operator', 'behind an operator']) {
        expect(log).toContain(`A subscriber of SessionManager.events failed: Error: ${problem}`);
      }
      expect(rejections).toEqual([]);
    } finally {
      process.off('unhandledRejection', note).off('uncaughtException', note);
    }
  });

  it('end with the application, for firstValueFrom and its like too', async () => {
    const first = firstValueFrom(served.sessions.events);
    await served.browser().get('/set');
    expect(await first).toMatchObject({ type: 'created' });
    let isComplete = false;
    served.sessions.events.subscribe({ complete: () => (isComplete = true) }).unsubscribe();
    served.sessions.events.subscribe({ complete: () => (isComplete = true) });
    await served.close();
    expect(isComplete).toBe(true);
    served = await serve(adapter, { controllers: [EventsController] });
  });
});
