import {
  type ArgumentsHost,
  Body,
  Catch,
  Controller,
  type ExceptionFilter,
  Get,
  HttpException,
  type INestApplication,
  Injectable,
  type MiddlewareConsumer,
  Module,
  Post,
  Req,
  Res,
  Scope,
} from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream';
import {
  MemoryStore,
  Session,
  SessionManager,
  SessionMiddleware,
  type SessionModuleOptions,
} from 'nest-session';
import onHeaders from 'on-headers';
import { type Browser, onBothAdapters, type Served, serve } from '../support/app.js';
import { RawClient } from '../support/raw-client.js';

type Any = Session<any>;
type NestResponse = ServerResponse & { raw?: ServerResponse; hijack?(): void };

/** What a test runs inside a handler, with Node's own response. */
let run: (session: Any, response: ServerResponse) => unknown = () => {};

@Injectable({ scope: Scope.REQUEST })
class BrokenProvider {
  constructor() {
    throw new Error('a defect in a constructor');
  }
}

@Controller('broken')
class BrokenController {
  constructor(readonly provider: BrokenProvider) {}

  @Get()
  show() {}
}

@Controller()
class ResponseController {
  @Get('value')
  async value(@Session() session: Any, @Req() request: IncomingMessage & { res?: ServerResponse }) {
    return { result: (await run(session, request.res as ServerResponse)) ?? null };
  }

  @Get('response')
  response(@Session() session: Any, @Res() response: NestResponse) {
    response.hijack?.();
    return run(session, response.raw ?? response);
  }

  @Get('nest')
  nest(@Session() session: Any, @Res({ passthrough: true }) response: NestResponse) {
    return run(session, response.raw ?? response);
  }

  @Get('plain')
  plain(@Res() response: NestResponse) {
    response.hijack?.();
    (response.raw ?? response).end('the body');
  }

  @Post('body')
  body(@Body() body: object) {
    return body;
  }

  @Get('fails')
  fails() {
    throw new Error('a defect');
  }
}

/** As Nest's documentation has it: reply() is not awaited. */
@Catch()
class CatchAllFilter implements ExceptionFilter {
  constructor(private readonly host: HttpAdapterHost) {}

  catch(error: unknown, host: ArgumentsHost): void {
    const status = error instanceof HttpException ? error.getStatus() : 500;
    this.host.httpAdapter.reply(host.switchToHttp().getResponse(), { caught: true }, status);
  }
}

/** The session that has been opened for a bare request. */
function stateOfTest({ app }: Served, request: object): unknown {
  const { sessions } = { sessions: app.get(SessionManager) };
  return (sessions as unknown as { opened(at: object): unknown }).opened({ owner: request });
}

@Module({})
class MiddlewareModule {
  configure(consumer: MiddlewareConsumer): void {
    consumer.apply(SessionMiddleware).forRoutes('{*path}');
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;
  const rejections: unknown[] = [];
  const note = (reason: unknown): void => void rejections.push(reason);

  async function start(options: Partial<SessionModuleOptions> = {}, setup: object = {}) {
    served = await serve(adapter, { controllers: [ResponseController], options, ...setup });
    browser = served.browser();
    run = (session) => void session.set('cart', { items: ['pen'] });
    await browser.get('/value');
    served.store.drain();
  }

  async function saved(): Promise<any> {
    run = (session) => session.data;
    return (await browser.get('/value')).body.result;
  }

  beforeAll(() => void process.on('unhandledRejection', note));
  afterAll(() => void process.off('unhandledRejection', note));
  afterEach(async () => {
    await served.close();
    const unhandled = rejections.splice(0);
    // oxlint-disable-next-line jest/no-standalone-expect -- of each test above
    expect(unhandled).toEqual([]);
  });

  describe('an answer is whole', () => {
    // The clock is read when the session is loaded, and again when the response begins. Whichever reading is the first
    // at which the extension is due, what follows it must not be decided anew.
    it.each([0, 1, 2, 3, 4, 5, 6, 7, 8])(
      'when the extension falls due after %i more looks at the clock',
      async (looks) => {
        let left = Infinity;
        let now = Date.UTC(2026, 0, 1);
        const clock = () => {
          if (left-- === 0) now += 40_000_000;
          return now;
        };
        await start({ clock, store: new MemoryStore({ clock: () => now }) });
        run = (session, response) => {
          session.get('cart');
          left = looks;
          response.end('the body');
        };
        const { answer } = new RawClient(served.url, '/response', { Cookie: browser.cookie });
        expect(await answer).toMatchObject({ kind: 'whole', status: 200, body: 'the body' });
      },
    );

    it('when somebody writes to the session as the headers leave, which is saved after it', async () => {
      await start();
      run = (session, response) => {
        session.get('cart');
        onHeaders(response, () => void session.set('late', 'yes'));
        response.end('the body');
      };
      const barrier = served.store.hold('commit');
      const { answer } = new RawClient(served.url, '/response', { Cookie: browser.cookie });
      expect(await answer).toMatchObject({ kind: 'whole', status: 200, body: 'the body' });
      await barrier.reached;
      barrier.release();
      await served.http.get('/nowhere');
      expect(await saved()).toMatchObject({ late: 'yes' });
    });

    it.each(['set', 'regenerate', 'login'] as const)(
      'when the session is first used as the headers leave: %s()',
      async (operation) => {
        let refusal: unknown;
        await start(
          {},
          {
            prepare: (app: INestApplication) =>
              app.use((request: IncomingMessage, response: ServerResponse, next: () => void) => {
                if (!request.url?.startsWith('/plain')) return next();
                onHeaders(response, () => {
                  const session = stateOfTest(served, request) as Any;
                  if (operation === 'set') session.set('late', 'yes');
                  else refusal = session[operation]('alice').catch((error: unknown) => error);
                });
                next();
              }),
          },
        );
        const { answer } = new RawClient(served.url, '/plain', { Cookie: browser.cookie });
        expect(await answer).toMatchObject({ kind: 'whole', status: 200, body: 'the body' });
        // Whoever had a session has it still.
        await served.http.get('/nowhere');
        expect(await saved()).toMatchObject({ cart: { items: ['pen'] } });
        expect((await refusal) ?? { code: 'E_SESSION_USAGE' }).toMatchObject({ code: 'E_SESSION_USAGE' });
      },
    );

    it('with its cookie, by Node’s other name for writeHead, too', async () => {
      await start();
      run = async (session, response) => {
        await session.regenerate();
        (response as unknown as { writeHeader(status: number): void }).writeHeader(200);
        response.end('the body');
      };
      expect((await browser.get('/response').buffer(true)).text).toBe('the body');
      expect(await saved()).toEqual({ cart: { items: ['pen'] } });
    });

    it('and keeps the status that it had when it was ended', async () => {
      await start();
      run = (session, response) => {
        session.set('note', 1);
        response.end('fine');
        response.statusCode = 500;
      };
      expect((await browser.get('/response')).status).toBe(200);
    });

    it('when a value cannot be stored: that is an error, and no loop', async () => {
      await start();
      run = (session) =>
        void session.set('job', {
          get elapsed() {
            return performance.now();
          },
        });
      expect((await browser.get('/value')).status).toBe(500);
      expect(served.store.drain()).toEqual(['load']);
      expect(served.log.join('\n')).toMatch(/job\.elapsed: an accessor is not a JSON value/);
    });

    it('when an object in the session belongs to others too, who go on changing it', async () => {
      await start();
      const entity = { name: 'a cached entity', hits: 0 };
      const commit = served.store.commit;
      served.store.commit = (...args) => {
        entity.hits++;
        return commit(...args);
      };
      run = (session) => void session.set('entity', entity);
      const others = [browser.copy(), browser.copy(), browser];
      const answers = await Promise.all(others.map((one) => one.get('/value')));
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
      // A load, and a save with the handler's value, at its end, at the answer's beginning and at its end.
      expect(served.store.drain().length).toBeLessThanOrEqual(3 * 5);
    });
  });

  describe('a store that refuses to write, while an extension is due, is a 503 for', () => {
    const setup = { imports: [MiddlewareModule] };

    async function refuse(moreSetup: object = {}) {
      await start({}, { ...setup, ...moreSetup });
      served.clock.pass(40_000);
      served.store.fail('touch', 'commit');
    }

    async function stillThere() {
      served.store.recover();
      expect(await saved()).toEqual({ cart: { items: ['pen'] } });
    }

    it('a 404', async () => {
      await refuse();
      expect((await browser.get('/favicon.ico')).status).toBe(503);
      await stillThere();
    });

    it('an error of a request-scoped provider', async () => {
      await refuse({ controllers: [ResponseController, BrokenController], providers: [BrokenProvider] });
      expect((await browser.get('/broken')).status).toBe(503);
      await stillThere();
    });

    it('a catch-all filter that calls httpAdapter.reply()', async () => {
      await refuse({
        prepare: (app: { useGlobalFilters(filter: object): void; get(token: unknown): HttpAdapterHost }) =>
          app.useGlobalFilters(new CatchAllFilter(app.get(HttpAdapterHost))),
      });
      for (const path of ['/fails', '/nowhere']) expect((await browser.get(path)).status).toBe(503);
      await stillThere();
    });

    it('a body that is no JSON, unless it is refused before the session is opened', async () => {
      await refuse();
      const response = await browser.post('/body').set('Content-Type', 'application/json').send('{"no":');
      expect([400, 503]).toContain(response.status);
      await stillThere();
    });
  });

  it('an adapter’s own methods are not touched', async () => {
    await start();
    const { httpAdapter } = served.app.get(HttpAdapterHost);
    for (const name of ['reply', 'render', 'redirect']) {
      expect(Object.hasOwn(httpAdapter, name)).toBe(false);
    }
  });

  describe('a save that fails', () => {
    it.each([
      ['and is caught', (session: Any) => session.save().catch(() => {})],
      ['and is not awaited', (session: Any) => void session.save()],
    ])('%s is a 503 as long as the store is away', async (_, save) => {
      await start();
      served.store.fail('commit');
      run = async (session) => {
        session.set('note', 'kept');
        await save(session);
      };
      expect((await browser.get('/value')).status).toBe(503);
      served.store.recover();
      expect(await saved()).toEqual({ cart: { items: ['pen'] } });
    });

    it.each([
      ['and is caught', async (session: Any) => session.save().catch(() => {})],
      ['and is not awaited', (session: Any) => void session.save()],
    ])('%s is made good by the one that follows', async (_, save) => {
      await start();
      const commit = served.store.commit;
      let failures = 1;
      served.store.commit = (...args) =>
        failures-- > 0 ? Promise.reject(new Error('connection refused')) : commit(...args);
      run = async (session) => {
        session.set('note', 'kept');
        await save(session);
      };
      expect((await browser.get('/value')).status).toBe(200);
      expect(await saved()).toEqual({ cart: { items: ['pen'] }, note: 'kept' });
    });

    it.each(['logout', 'regenerate'] as const)('in %s() and is caught is a 503, too', async (operation) => {
      await start();
      served.store.fail('destroy', 'rotate');
      run = (session) => session[operation]().catch(() => {});
      expect((await browser.get('/value')).status).toBe(503);
      served.store.recover();
      expect(await saved()).toEqual({ cart: { items: ['pen'] } });
    });
  });

  it('a session that is used for the first time when the answer is out is warned of, or saved with the handler', async () => {
    await start();
    const done = new Promise<void>((resolve) => {
      run = async (session, response) => {
        response.end('the body');
        await once(response, 'close');
        session.set('slow', 'yes');
        setImmediate(() =>
          setImmediate(() => {
            session.set('late', 'yes');
            setImmediate(() => setImmediate(resolve));
          }),
        );
      };
    });
    await browser.get('/response').buffer(true);
    await done;
    expect(served.log).toEqual([expect.stringMatching(/lost unless you save it/)]);
    expect(await saved()).toEqual({ cart: { items: ['pen'] }, slow: 'yes' });
  });

  it('login() with an id that is none is refused, awaited or not', async () => {
    await start();
    run = (session) => void session.login('');
    expect((await browser.get('/value')).status).toBe(200);
    expect(served.log).toEqual([expect.stringMatching(/login\(\) takes the user's id/)]);
  });

  it('what is written after a logout that nobody awaited begins another session', async () => {
    await start();
    const before = browser.copy();
    run = (session) => {
      void session.logout();
      session.set('after', 'the logout');
    };
    expect((await browser.get('/value')).status).toBe(200);
    expect(await saved()).toEqual({ after: 'the logout' });
    browser = before;
    expect(await saved()).toEqual({});
  });

  it('a session is not moved to an id that its client, which has hung up, would never hear of', async () => {
    await start();
    let arrive = (): void => {};
    const arrived = new Promise<void>((resolve) => (arrive = resolve));
    const refused = new Promise((resolve) => {
      run = async (session, response) => {
        arrive();
        await once(response, 'close');
        resolve(session.regenerate().catch((error: unknown) => error));
      };
    });
    const client = new RawClient(served.url, '/nest', { Cookie: browser.cookie });
    await arrived;
    client.socket.destroy();
    expect(await refused).toMatchObject({ code: 'E_SESSION_USAGE' });
    expect(await saved()).toEqual({ cart: { items: ['pen'] } });
  });

  it('what a 503 has answered is not stored all the same', async () => {
    await start();
    const commit = served.store.commit;
    let failures = 1;
    served.store.commit = (...args) =>
      failures-- > 0 ? Promise.reject(new Error('connection refused')) : commit(...args);
    run = (session, response) => {
      session.set('paid', 1);
      response.end('thank you');
    };
    expect((await browser.get('/response')).status).toBe(503);
    expect(await saved()).toEqual({ cart: { items: ['pen'] } });
  });

  it.each([Object.create(null), { toString: 1 }, undefined, Symbol('why')])(
    'a store that rejects with what is no error is a 503, too',
    async (cause) => {
      await start();
      served.store.commit = () => Promise.reject(cause);
      run = (session) => void session.set('note', 1);
      expect((await browser.get('/value')).status).toBe(503);
    },
  );

  it('a pipeline into a response that has become an error comes to its end', async () => {
    await start();
    served.store.fail('commit');
    const ended = new Promise<unknown>((resolve) => {
      run = (session, response) => {
        session.set('note', 1);
        async function* chunks() {
          try {
            for (let count = 0; count < 50; count++) yield 'x'.repeat(4096);
          } finally {
            resolve('ended');
          }
        }
        response.setHeader('Trailer', 'X-Sum');
        pipeline(chunks, response, () => {});
      };
    });
    expect((await browser.get('/response')).status).toBe(503);
    expect(await ended).toBe('ended');
  });

  it.each(['on', 'once'] as const)(
    'whoever waits for drain with %s(), and no longer, is not told',
    async (name) => {
      // A neighbour that keeps what it is given asks nobody to wait, so that no 'drain' of Node's comes.
      const prepare = (app: INestApplication): unknown =>
        app.use((_: unknown, response: ServerResponse, next: () => void) => {
          const { write } = response;
          response.write = (...args: unknown[]) => {
            write.apply(response, args as never);
            return true;
          };
          next();
        });
      await start({}, { prepare });
      const told: string[] = [];
      const commit = served.store.hold('commit');
      run = (session, response) => {
        session.set('note', 1);
        response.write('x'.repeat(100_000));
        const left = (): void => void told.push('left');
        response[name]('drain', left);
        response[name]('drain', () => {
          told.push('stayed');
          response.end();
        });
        response.off('drain', left);
      };
      const answer = browser.begin('/response');
      await commit.reached;
      commit.release();
      expect((await answer).status).toBe(200);
      expect(new Set(told)).toEqual(new Set(['stayed']));
    },
  );

  describe('what is written after the response is closed', () => {
    async function afterTheAnswer(work: (session: Any) => unknown) {
      await start();
      const done = new Promise<void>((resolve) => {
        run = (session, response) => {
          session.get('cart');
          response.on('close', async () => {
            await work(session);
            setImmediate(() => setImmediate(resolve));
          });
          response.end('the body');
        };
      });
      await browser.get('/response').buffer(true);
      await done;
    }

    it('and not saved is a warning', async () => {
      await afterTheAnswer((session) => {
        session.set('late', 1);
        session.set('later', 2);
      });
      expect(served.log).toEqual([expect.stringMatching(/lost unless you save it: await session\.save\(\)/)]);
      expect(await saved()).toEqual({ cart: { items: ['pen'] } });
    });

    it('and saved by hand is there, without a warning', async () => {
      await afterTheAnswer((session) => session.set('late', 1).save());
      expect(served.log).toEqual([]);
      expect(await saved()).toMatchObject({ late: 1 });
    });
  });

  it('a handler that goes on when its client has hung up is saved at its end, without a warning', async () => {
    await start();
    const arrived = new Promise<ServerResponse>((resolve) => {
      run = async (session, response) => {
        resolve(response);
        await once(response, 'close');
        session.set('slow', 'yes');
        await new Promise((later) => setImmediate(() => setImmediate(later)));
      };
    });
    const barrier = served.store.hold('commit');
    const client = new RawClient(served.url, '/nest', { Cookie: browser.cookie });
    await arrived;
    client.socket.destroy();
    await barrier.reached;
    barrier.release();
    await served.http.get('/nowhere');
    expect(await saved()).toMatchObject({ slow: 'yes' });
    expect(served.log).toEqual([]);
  });

  it('an end that really was is not taken back by what is written after it', async () => {
    await start();
    let ended: unknown[] = [];
    run = (session, response) => {
      session.get('cart');
      response.end('the body');
      session.set('late', 1);
      response.end();
      ended = [response.writableEnded, response.headersSent];
    };
    await browser.get('/response');
    expect(ended).toEqual([true, true]);
  });

  it('whoever waits for a step learns that the response has become an error', async () => {
    await start();
    served.store.fail('commit');
    const told = new Promise((resolve) => {
      run = (session, response) => {
        session.set('note', 1);
        response.write('a chunk', (error) => resolve(error));
      };
    });
    expect((await browser.get('/response')).status).toBe(503);
    expect(await told).toMatchObject({ code: 'E_SESSION_STORE_UNAVAILABLE' });
  });

  it('a store of one’s own that does not say what it did is told what to answer', async () => {
    await start({ auth: { maxSessionsPerUser: 1 } });
    const { store } = served;
    store.destroy = async (id) => void (await store.inner.destroy(id)) as never;
    run = (session) => session.login('alice');
    expect((await browser.get('/value')).status).toBe(200);
    expect((await served.browser().get('/value')).status).toBe(503);
    expect(served.log.join('\n')).toContain(
      'HeldStore.destroy() answered undefined, and the contract asks for true or false',
    );
  });
});
