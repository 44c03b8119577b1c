import {
  type ArgumentsHost,
  BadGatewayException,
  BadRequestException,
  type CanActivate,
  Catch,
  Controller,
  type ExceptionFilter,
  type ExecutionContext,
  Get,
  Head,
  HttpException,
  Injectable,
  Param,
  Redirect,
  Req,
  Res,
  Sse,
  StreamableFile,
  UseFilters,
  UseGuards,
} from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { type FlashMessages, Flash, Session, SessionManager } from 'nest-session';
import { from, of, throwError } from 'rxjs';
import { onBothAdapters, type Served, serve, sessionCookies } from '../support/app.js';

type Any = Session<any>;

@Injectable()
class RefusingGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const { session } = context.switchToHttp().getRequest<{ session: Session }>();
    session.flash.set('from', 'guard');
    return false;
  }
}

@Catch()
class FlashingFilter implements ExceptionFilter {
  constructor(
    private readonly sessions: SessionManager,
    private readonly host: HttpAdapterHost,
  ) {}

  async catch(error: unknown, host: ArgumentsHost): Promise<void> {
    const http = host.switchToHttp();
    const session = await this.sessions.open(http.getRequest<object>());
    session.flash.set('from', 'filter');
    const status = error instanceof HttpException ? error.getStatus() : 500;
    this.host.httpAdapter.reply(http.getResponse(), { filtered: true }, status);
  }
}

/** What the filters and adapters differ in, for handlers that answer by themselves. */
function raw(response: ServerResponse & { raw?: ServerResponse }): ServerResponse {
  return response.raw ?? response;
}

@Controller()
class CommitController {
  @Get('value')
  value(@Session() session: Any) {
    session.set('saved', 'value');
    return { ok: true };
  }

  @Get('promise')
  async promise(@Session() session: Any) {
    await Promise.resolve();
    session.set('saved', 'promise');
    return { ok: true };
  }

  @Get('observable')
  observable(@Session() session: Any) {
    session.set('saved', 'observable');
    return from([1, 2, 3]);
  }

  @Get('redirect')
  @Redirect('/elsewhere', 302)
  redirect(@Session() session: Any) {
    session.set('saved', 'redirect');
  }

  @Get('file')
  file(@Session() session: Any) {
    session.set('saved', 'file');
    return new StreamableFile(Buffer.from('the file'));
  }

  @Get('res-send')
  resSend(@Session() session: Any, @Res() response: { send(body: string): void }) {
    session.set('saved', 'res-send');
    response.send('sent');
  }

  @Get('res-json')
  resJson(@Session() session: Any, @Res() response: { json?(body: object): void; send(body: object): void }) {
    session.set('saved', 'res-json');
    if (response.json) response.json({ sent: true });
    else response.send({ sent: true });
  }

  @Get('res-redirect')
  resRedirect(
    @Session() session: Any,
    @Res() response: { status(code: number): { redirect(to: string): void } },
  ) {
    session.set('saved', 'res-redirect');
    response.status(302).redirect('/elsewhere');
  }

  @Get('res-send-then-set')
  resSendThenSet(@Session() session: Any, @Res() response: { send(body: string): void }) {
    session.set('saved', 'before the answer');
    response.send('sent');
    session.set('saved', 'after it was handed over');
  }

  @Get('res-bad-header')
  resBadHeader(@Session() session: Any, @Res() response: ServerResponse & { hijack?(): void }) {
    response.hijack?.();
    session.set('saved', 'res-bad-header');
    raw(response).writeHead(200, { 'Content-Disposition': 'filename="中.txt"' });
    raw(response).end('never sent');
  }

  @Get('res-bad-body')
  resBadBody(@Session() session: Any, @Res() response: ServerResponse & { hijack?(): void }) {
    response.hijack?.();
    session.set('saved', 'res-bad-body');
    raw(response).end(5);
  }

  @Get('res-late')
  resLate(@Session() session: Any, @Res() response: { send(body: string): void }) {
    setImmediate(() => {
      session.set('saved', 'res-late');
      response.send('sent');
    });
  }

  @Get('res-nested')
  resNested(@Session() session: Any, @Res() response: { send(body: string): void }) {
    session.get('cart').items.push('pen');
    response.send('sent');
  }

  @Get('res-stream')
  resStream(@Session() session: Any, @Res() response: ServerResponse & { hijack?(): void }) {
    response.hijack?.();
    session.set('saved', 'res-stream');
    Readable.from(['one ', 'two ', 'three']).pipe(raw(response));
  }

  @Get('res-write-head')
  resWriteHead(@Session() session: Any, @Res() response: ServerResponse & { hijack?(): void }) {
    response.hijack?.();
    session.set('saved', 'res-write-head');
    raw(response).writeHead(202, { 'Set-Cookie': ['own=1; Path=/'], Vary: 'Accept', 'X-Own': 'yes' });
    raw(response).end('written');
  }

  @Get('res-mid-stream')
  resMidStream(@Session() session: Any, @Res() response: ServerResponse & { hijack?(): void }) {
    response.hijack?.();
    const stream = raw(response);
    stream.write('first ');
    session.set('saved', 'mid-stream');
    stream.end('last');
  }

  @Get('res-twice')
  resTwice(@Session() session: Any, @Res() response: ServerResponse & { hijack?(): void }) {
    response.hijack?.();
    const stream = raw(response);
    session.set('saved', 'res-twice');
    stream.end('once');
    secondAnswer = {
      headersSent: stream.headersSent,
      writableEnded: stream.writableEnded,
      setHeader: codeOf(() => stream.setHeader('X-Late', '1')),
      writeHead: codeOf(() => stream.writeHead(500)),
    };
    stream.end('twice');
  }

  @Sse('sse')
  sse(@Session() session: Any) {
    session.set('saved', 'sse');
    return of({ data: 'one' }, { data: 'two' }, { data: 'three' });
  }

  @Get('refused')
  @UseGuards(RefusingGuard)
  refused() {}

  @Get('bad-request')
  badRequest(@Session() session: Any) {
    session.set('saved', 'bad-request');
    throw new BadRequestException();
  }

  @Get('server-error')
  serverError(@Session() session: Any) {
    session.set('saved', 'server-error');
    throw new BadGatewayException();
  }

  @Get('unknown-error')
  unknownError(@Session() session: Any) {
    session.set('saved', 'unknown-error');
    throw new Error('a defect');
  }

  @Get('unknown-error-observable')
  unknownErrorObservable(@Session() session: Any) {
    session.set('saved', 'unknown-error');
    return throwError(() => new Error('a defect'));
  }

  @Get('filtered/:status')
  @UseFilters(FlashingFilter)
  filtered(@Session() session: Any, @Param('status') status: string) {
    session.set('saved', 'filtered');
    if (status === '400') throw new BadRequestException();
    throw new Error('a defect');
  }

  @Get('login-then-fail')
  async loginThenFail(@Session() session: Any) {
    await session.login('alice');
    session.set('saved', 'after the login');
    throw new Error('a defect');
  }

  @Get('logout-then-fail')
  async logoutThenFail(@Session() session: Any) {
    await session.logout();
    throw new Error('a defect');
  }

  @Get('not-json')
  notJson(@Session() session: Any) {
    session.get('cart').items.push(new Date(0));
    return { ok: true };
  }

  @Head('head')
  head(@Session() session: Any) {
    session.set('saved', 'head');
  }

  @Get('slow')
  async slow(@Session() session: Any, @Req() request: IncomingMessage & { raw?: IncomingMessage }) {
    const client = (request.raw ?? request).socket;
    announceSlow();
    if (!client.destroyed) await once(client, 'close');
    session.set('saved', 'slow');
    return { ok: true };
  }

  @Get('never-answers')
  neverAnswers(@Session() session: Any, @Res() response: ServerResponse & { hijack?(): void }) {
    response.hijack?.();
    setImmediate(() => {
      session.set('saved', 'never-answers');
      announceSlow();
    });
  }

  @Get('saved')
  saved(@Session() session: Any, @Flash() flash: FlashMessages) {
    return {
      saved: session.get('saved') ?? null,
      userId: session.userId ?? null,
      cart: session.get('cart') ?? null,
      flash: flash.all(),
    };
  }

  @Get('begin')
  begin(@Session() session: Any) {
    session.set('cart', { items: [] }).set('saved', 'nothing yet');
  }
}

let secondAnswer: object = {};

function codeOf(attempt: () => unknown): string | undefined {
  try {
    attempt();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return undefined;
}

let announceSlow = (): void => {};

onBothAdapters((adapter) => {
  let served: Served;
  beforeAll(async () => {
    served = await serve(adapter, { controllers: [CommitController], providers: [FlashingFilter] });
  });
  afterAll(() => served.close());
  beforeEach(() => void served.store.drain());

  async function saved(browser: ReturnType<Served['browser']>) {
    return (await browser.get('/saved')).body as Record<string, unknown>;
  }

  describe('a visitor’s first write is stored and its cookie delivered by', () => {
    it.each([
      ['value', 200],
      ['promise', 200],
      ['observable', 200],
      ['redirect', 302],
      ['file', 200],
      ['res-send', 200],
      ['res-json', 200],
      ['res-redirect', 302],
      ['res-late', 200],
      ['res-stream', 200],
      ['sse', 200],
    ])('a handler that answers with %s', async (route, status) => {
      const browser = served.browser();
      const response = await browser.get(`/${route}`);
      expect(response.status).toBe(status);
      expect(sessionCookies(response)).toHaveLength(1);
      expect(served.store.drain()).toEqual(['create']);
      expect(await saved(browser)).toMatchObject({ saved: route });
    });

    it('a HEAD request', async () => {
      const response = await served.http.head('/head').expect(200);
      expect(sessionCookies(response)).toHaveLength(1);
      expect(served.store.drain()).toEqual(['create']);
    });

    it('a handler that writes the head by itself, whose own cookie and headers stay', async () => {
      const response = await served.http.get('/res-write-head').expect(202);
      expect(response.text).toBe('written');
      expect(response.headers).toMatchObject({ 'x-own': 'yes', vary: 'Accept, Cookie' });
      expect(response.headers['set-cookie']).toEqual([
        'own=1; Path=/',
        expect.stringMatching(/^session_id=/) as string,
      ]);
    });

    it('a refusing guard’s 403', async () => {
      const browser = served.browser();
      const response = await browser.get('/refused');
      expect(response.status).toBe(403);
      expect(sessionCookies(response)).toHaveLength(1);
      expect(await saved(browser)).toMatchObject({ flash: { from: 'guard' } });
    });

    it('an HttpException below 500', async () => {
      const browser = served.browser();
      const response = await browser.get('/bad-request');
      expect(response.status).toBe(400);
      expect(await saved(browser)).toMatchObject({ saved: 'bad-request' });
    });
  });

  it('streams whole, whatever the store takes', async () => {
    const barrier = served.store.hold('create');
    const answered = served.http.get('/res-stream');
    const text = answered.then((response) => response.text);
    await barrier.reached;
    barrier.release();
    expect(await text).toBe('one two three');
  });

  it('sends every event of a stream, and saves once', async () => {
    const response = await served.http.get('/sse').expect(200);
    expect(response.text.match(/data: \w+/g)).toEqual(['data: one', 'data: two', 'data: three']);
    expect(served.store.drain()).toEqual(['create']);
  });

  it.each(['res-send', 'value', 'sse', 'refused', 'res-redirect'])(
    'does not answer %s before the store has the data',
    async (route) => {
      const barrier = served.store.hold('create');
      let answered = false;
      const response = served.http
        .get(`/${route}`)
        .redirects(0)
        .ok(() => true)
        .then((done) => {
          answered = true;
          return done;
        });
      await barrier.reached;
      // A second request, answered in full, gives the first every chance to be answered too early.
      await served.http.get('/saved').expect(200);
      expect(answered).toBe(false);
      barrier.release();
      expect(sessionCookies(await response)).toHaveLength(1);
    },
  );

  it('waits for what is written while the answer waits, too', async () => {
    const browser = served.browser();
    const barrier = served.store.hold('commit');
    let answered = false;
    const response = browser.begin('/res-send-then-set').finally(() => (answered = true));
    await barrier.reached;
    await served.http.get('/saved').expect(200);
    expect(answered).toBe(false);
    barrier.release();
    await response;
    expect(await saved(browser)).toMatchObject({ saved: 'after it was handed over' });
  });

  it.each(['res-bad-header', 'res-bad-body'])(
    'answers 500, with the cookie, when what was handed over cannot be sent: %s',
    async (route) => {
      const browser = served.browser();
      const response = await browser.get(`/${route}`);
      expect(response.status).toBe(500);
      expect(sessionCookies(response)).toHaveLength(1);
      expect(await saved(browser)).toMatchObject({ saved: route });
      expect(served.log.join('\n')).toMatch(/ERR_INVALID_(CHAR|ARG_TYPE)|Invalid character|must be of type/);
    },
  );

  it('lets nobody answer a second time, or change the headers, while an answer waits', async () => {
    const response = await served.http.get('/res-twice').expect(200);
    expect(response.text).toBe('once');
    expect(secondAnswer).toEqual({
      headersSent: true,
      writableEnded: true,
      setHeader: 'ERR_HTTP_HEADERS_SENT',
      writeHead: 'ERR_HTTP_HEADERS_SENT',
    });
    expect(response.headers).not.toHaveProperty('x-late');
  });

  it('saves a change made inside a value on the way out of @Res()', async () => {
    const browser = served.browser();
    await browser.get('/begin');
    await browser.get('/res-nested');
    expect(await saved(browser)).toMatchObject({ cart: { items: ['pen'] } });
  });

  it('saves what is written while the body streams, when the session has its cookie already', async () => {
    const browser = served.browser();
    await browser.get('/begin');
    const response = await browser.get('/res-mid-stream');
    expect(response.text).toBe('first last');
    expect(await saved(browser)).toMatchObject({ saved: 'mid-stream' });
  });

  it('cuts the connection when a new session’s cookie can no longer be sent, and stores nothing', async () => {
    await expect(served.http.get('/res-mid-stream')).rejects.toThrow(/aborted|socket hang up/);
    expect(served.store.drain()).toEqual([]);
    expect(served.log.join('\n')).toMatch(/headers of this response have been sent already/);
  });

  describe('an unknown error, or an HttpException of 500 and above,', () => {
    it.each([
      ['unknown-error', 500],
      ['unknown-error-observable', 500],
      ['server-error', 502],
    ])('saves nothing: %s', async (route, status) => {
      const browser = served.browser();
      await browser.get('/begin');
      served.store.drain();
      expect((await browser.get(`/${route}`)).status).toBe(status);
      expect(served.store.drain()).toEqual(['load']);
      expect(await saved(browser)).toMatchObject({ saved: 'nothing yet' });
    });

    it('keeps a login that was awaited, and its cookie, but nothing written after it', async () => {
      const browser = served.browser();
      await browser.get('/begin');
      const before = browser.cookie;
      const response = await browser.get('/login-then-fail');
      expect(response.status).toBe(500);
      expect(browser.cookie).not.toBe(before);
      expect(await saved(browser)).toMatchObject({ saved: 'nothing yet', userId: 'alice' });
    });

    it('keeps a logout that was awaited', async () => {
      const browser = served.browser();
      await browser.get('/begin');
      const before = browser.copy();
      expect((await browser.get('/logout-then-fail')).status).toBe(500);
      expect(browser.cookie).toBeUndefined();
      expect(await saved(before)).toMatchObject({ saved: null });
    });
  });

  describe('an exception filter that writes the session', () => {
    it('has it saved, with what the handler wrote, after an HttpException', async () => {
      const browser = served.browser();
      expect((await browser.get('/filtered/400')).status).toBe(400);
      expect(await saved(browser)).toMatchObject({ saved: 'filtered', flash: { from: 'filter' } });
    });

    it('has it saved, without what the handler wrote, after an unknown error', async () => {
      const browser = served.browser();
      expect((await browser.get('/filtered/500')).status).toBe(500);
      expect(await saved(browser)).toMatchObject({ saved: null, flash: { from: 'filter' } });
    });
  });

  it('answers 500 for a value that cannot be stored, and keeps the record as it was', async () => {
    const browser = served.browser();
    await browser.get('/begin');
    const response = await browser.get('/not-json');
    expect(response.status).toBe(500);
    expect(served.log.join('\n')).toMatch(/Cannot store session value cart\.items\[0\]: a Date/);
    expect(await saved(browser)).toMatchObject({ cart: { items: [] } });
  });

  it('answers 404 without touching a session nobody asked for', async () => {
    const response = await served.http.get('/nowhere').expect(404);
    expect(sessionCookies(response)).toEqual([]);
    expect(served.store.drain()).toEqual([]);
  });

  describe('a client that hangs up half-way', () => {
    it.each(['slow', 'never-answers'])('still has its changes saved: %s', async (route) => {
      const browser = served.browser();
      await browser.get('/begin');
      const arrived = new Promise<void>((resolve) => (announceSlow = resolve));
      const barrier = served.store.hold('commit');
      const socket = connect(Number(new URL(served.url).port), '127.0.0.1');
      socket.write(`GET /${route} HTTP/1.1\r\nHost: test\r\nCookie: ${browser.cookie}\r\n\r\n`);
      await arrived;
      socket.destroy();
      await barrier.reached;
      barrier.release();
      expect(await saved(browser)).toMatchObject({ saved: route });
    });
  });
});

onBothAdapters((adapter) => {
  it('saves before a response that a middleware has wrapped, and calls each of its functions once', async () => {
    const seen: string[] = [];
    const wrapping = await serve(adapter, {
      controllers: [CommitController],
      providers: [FlashingFilter],
      prepare: (app) =>
        app.use((_: IncomingMessage, response: ServerResponse, next: () => void) => {
          for (const name of ['writeHead', 'end'] as const) {
            const original = response[name].bind(response) as (...args: unknown[]) => ServerResponse;
            Object.assign(response, {
              [name]: (...args: unknown[]) => {
                seen.push(name);
                return original(...args);
              },
            });
          }
          next();
        }),
    });
    try {
      const browser = wrapping.browser();
      const response = await browser.get('/res-send');
      expect(response.text).toBe('sent');
      expect(sessionCookies(response)).toHaveLength(1);
      expect(seen.toSorted()).toEqual(['end', 'writeHead']);
      expect((await browser.get('/saved')).body).toMatchObject({ saved: 'res-send' });
    } finally {
      await wrapping.close();
    }
  });
});
