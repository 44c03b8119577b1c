import {
  Controller,
  Get,
  type CanActivate,
  type ExecutionContext,
  Injectable,
  UseGuards,
} from '@nestjs/common';
import { Flash, type FlashMessages, Session } from 'nest-session';
import { type Browser, onBothAdapters, type Served, serve } from '../support/app.js';

let run: (session: Session<any>) => unknown = () => {};

@Injectable()
class NoticeGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    context.switchToHttp().getRequest<{ session: Session }>().session.flash.set('notice', 'from the guard');
    return true;
  }
}

@Controller()
class FlashController {
  @Get('run')
  async run(@Session() session: Session<any>) {
    return { result: (await run(session)) ?? null };
  }

  @Get('page')
  page(@Flash() flash: FlashMessages, @Session('theme' as never) theme?: string) {
    return { messages: flash.all(), theme: theme ?? null };
  }

  @Get('one')
  one(@Flash('notice') notice?: string) {
    return { notice: notice ?? null };
  }

  @Get('other')
  other(@Session() session: Session<any>) {
    return { visits: session.increment('visits') };
  }

  @Get('ignore')
  ignore() {
    return {};
  }

  @Get('guarded')
  @UseGuards(NoticeGuard)
  guarded(@Flash('notice') notice?: string) {
    return { notice };
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;

  beforeAll(async () => {
    served = await serve(adapter, { controllers: [FlashController] });
  });
  afterAll(() => served.close());
  beforeEach(() => {
    browser = served.browser();
    served.store.drain();
  });

  async function inHandler(work: (session: Session<any>) => unknown): Promise<any> {
    run = work;
    return (await browser.get('/run')).body.result;
  }

  const messages = async (): Promise<unknown> => (await browser.get('/page')).body.messages;

  it('a message is read once', async () => {
    await inHandler((session) => void session.flash.set('notice', { text: 'Saved', count: 2 }));
    expect(await messages()).toEqual({ notice: { text: 'Saved', count: 2 } });
    expect(await messages()).toEqual({});
  });

  it('the decorator reads one message, and leaves the others', async () => {
    await inHandler((session) => void session.flash.set('notice', 'Saved').set('error', 'But'));
    expect((await browser.get('/one')).body).toEqual({ notice: 'Saved' });
    expect((await browser.get('/one')).body).toEqual({ notice: null });
    expect(await messages()).toEqual({ error: 'But' });
  });

  it('waits through redirects and unrelated requests, parallel ones too', async () => {
    await inHandler((session) => void session.flash.set('notice', 'Saved'));
    await browser.get('/ignore');
    const held = served.store.hold('commit');
    const slow = browser.begin('/other');
    await held.reached;
    await browser.get('/other');
    held.release();
    await slow;
    expect(await messages()).toEqual({ notice: 'Saved' });
  });

  it('that a slow, unrelated request was under way with is not delivered a second time', async () => {
    await inHandler((session) => void session.flash.set('notice', 'Saved'));
    const held = served.store.hold('commit');
    const slow = browser.begin('/other');
    await held.reached;
    expect(await messages()).toEqual({ notice: 'Saved' });
    held.release();
    await slow;
    expect(await messages()).toEqual({});
  });

  it('is kept apart from the data', async () => {
    const seen = await inHandler((session) => {
      session.flash.set('theme', 'a message');
      session.set('theme', 'dark');
      return [session.data, session.keys(), session.clear().flash.peek('theme')];
    });
    expect(seen).toEqual([{ theme: 'dark' }, ['theme'], 'a message']);
  });

  it('set in a guard reaches the handler of the same request', async () => {
    expect((await browser.get('/guarded')).body).toEqual({ notice: 'from the guard' });
    expect(await messages()).toEqual({});
  });

  it('set and read in one request leaves nothing to store', async () => {
    expect(await inHandler((session) => session.flash.set('notice', 'x').get('notice'))).toBe('x');
    expect(browser.cookie).toBeUndefined();
    expect(served.store.drain()).toEqual([]);
  });

  it('peek looks and leaves it; has tells', async () => {
    await inHandler((session) => void session.flash.set('notice', 0));
    const look = (session: Session): unknown => [session.flash.has('notice'), session.flash.peek('notice')];
    expect(await inHandler(look)).toEqual([true, 0]);
    expect(await inHandler(look)).toEqual([true, 0]);
    expect(await inHandler((session) => session.flash.get('notice'))).toBe(0);
    expect(await inHandler((session) => session.flash.has('notice'))).toBe(false);
  });

  it('now is for this request only, and is never stored', async () => {
    const seen = await inHandler((session) => {
      session.flash.now('notice', 'here');
      return [
        session.flash.has('notice'),
        session.flash.peek('notice'),
        session.flash.all(),
        session.flash.all(),
      ];
    });
    expect(seen).toEqual([true, 'here', { notice: 'here' }, {}]);
    expect(served.store.drain()).toEqual([]);
    expect(await messages()).toEqual({});
  });

  it('keep puts back what this request has read, one or all', async () => {
    await inHandler((session) => void session.flash.set('a', 1).set('b', 2).set('c', 3));
    await inHandler((session) => {
      session.flash.get('a');
      session.flash.get('b');
      session.flash.keep('a');
    });
    expect(await inHandler((session) => session.flash.all())).toEqual({ a: 1, c: 3 });
    await inHandler((session) => void session.flash.set('a', 1).set('b', 2));
    await inHandler((session) => {
      session.flash.all();
      session.flash.keep();
    });
    expect(await messages()).toEqual({ a: 1, b: 2 });
  });

  it('survives the invalidation of the session when it is set after it', async () => {
    await inHandler((session) => void session.set('theme', 'dark').flash.set('old', 'gone with it'));
    await inHandler(async (session) => {
      await session.invalidate();
      session.flash.set('notice', 'Goodbye');
    });
    expect((await browser.get('/page')).body).toEqual({ messages: { notice: 'Goodbye' }, theme: null });
  });

  it('may be any JSON value under any key, and nothing else', async () => {
    let caught: unknown;
    await inHandler((session) => {
      session.flash.set('__proto__', null).set('', false).set('constructor', ['x']);
      try {
        session.flash.set('notice', { at: new Date(0) });
      } catch (error) {
        caught = error;
      }
    });
    expect(caught).toMatchObject({ code: 'E_SESSION_VALUE', path: 'flash.notice.at' });
    const seen = await inHandler((session) => Object.entries(session.flash.all()));
    expect(seen).toEqual([
      ['__proto__', null],
      ['', false],
      ['constructor', ['x']],
    ]);
  });
});
