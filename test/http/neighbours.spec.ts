import {
  Controller,
  Get,
  Header,
  type INestApplication,
  type MiddlewareConsumer,
  Module,
  Post,
  Req,
  Res,
  StreamableFile,
  UploadedFile,
  UseInterceptors,
} from '@nestjs/common';
import { FileInterceptor } from '@nestjs/platform-express';
import compress from '@fastify/compress';
import fastifyCookie from '@fastify/cookie';
import secureSession from '@fastify/secure-session';
import fastifySession from '@fastify/session';
import compression from 'compression';
import cookieSession from 'cookie-session';
import expressSession from 'express-session';
import helmet from 'helmet';
import express from 'express';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { Session, SessionMiddleware } from 'nest-session';
import onHeaders from 'on-headers';
import {
  type Adapter,
  type Browser,
  onBothAdapters,
  type Served,
  serve,
  sessionCookies,
} from '../support/app.js';

type Any = Session<any>;
type NestResponse = ServerResponse & {
  raw?: ServerResponse;
  hijack?(): void;
  sendFile(path: string): void;
  download(path: string): void;
};

let folder: string;
const small = 'a small file. '.repeat(200);
const large = 'a large file. '.repeat(40_000);
const files = { small, large } as const;

function fileAt(name: string): string {
  return join(folder, `${name}.txt`);
}

/** What a request does to the session before it answers: with the clock moved, nothing at all is enough. */
let touch: (session: Any) => void = () => {};

@Controller()
class NeighbourController {
  @Get('pipe/:size')
  pipe(@Session() session: Any, @Req() request: { url: string }, @Res() response: NestResponse) {
    touch(session);
    response.hijack?.();
    const raw = response.raw ?? response;
    raw.setHeader('Content-Type', 'text/plain');
    createReadStream(fileAt(request.url.endsWith('large') ? 'large' : 'small')).pipe(raw);
  }

  @Get('transformed/:size')
  transformed(@Session() session: Any, @Req() request: { url: string }, @Res() response: NestResponse) {
    touch(session);
    response.hijack?.();
    const raw = response.raw ?? response;
    raw.setHeader('Content-Type', 'text/plain');
    const file = createReadStream(fileAt(request.url.endsWith('large') ? 'large' : 'small'));
    file.pipe(new PassThrough()).pipe(raw);
  }

  @Get('streamable/:size')
  @Header('Content-Type', 'text/plain')
  streamable(@Session() session: Any, @Req() request: { url: string }) {
    touch(session);
    return new StreamableFile(createReadStream(fileAt(request.url.endsWith('large') ? 'large' : 'small')));
  }

  @Get('json/:size')
  json(@Session() session: Any, @Req() request: { url: string }) {
    touch(session);
    return { text: request.url.endsWith('large') ? large : small };
  }

  @Get('send-file/:size')
  sendFile(@Session() session: Any, @Req() request: { url: string }, @Res() response: NestResponse) {
    touch(session);
    response.sendFile(fileAt(request.url.endsWith('large') ? 'large' : 'small'));
  }

  @Get('download/:size')
  download(@Session() session: Any, @Req() request: { url: string }, @Res() response: NestResponse) {
    touch(session);
    response.download(fileAt(request.url.endsWith('large') ? 'large' : 'small'));
  }

  @Get('chunks')
  chunks(@Session() session: Any, @Res() response: NestResponse) {
    touch(session);
    response.hijack?.();
    const raw = response.raw ?? response;
    raw.setHeader('Content-Type', 'text/plain');
    Readable.from(Array.from({ length: 100 }, (_, index) => `chunk ${index}\n`)).pipe(raw);
  }

  @Get('flushed')
  async flushed(@Session() session: Any, @Res() response: NestResponse) {
    touch(session);
    response.hijack?.();
    const raw = response.raw ?? response;
    raw.setHeader('Content-Type', 'text/plain');
    raw.flushHeaders();
    for (let count = 0; count < 5; count++) {
      if (!raw.write('x'.repeat(20_000))) await once(raw, 'drain');
    }
    raw.end('the end');
  }

  @Get('twice')
  twice(@Session() session: Any, @Res() response: NestResponse) {
    response.hijack?.();
    const raw = response.raw ?? response;
    session.set('first', 1);
    raw.write('a');
    session.set('second', 2);
    raw.end('b');
  }

  @Get('count')
  count(@Session() session: Any, @Req() request: { session: Record<string, number> }) {
    session.increment('ours');
    // express-session, cookie-session and @fastify/session take properties; ours has none of them.
    request.session.theirs = (request.session.theirs ?? 0) + 1;
    return { ours: session.get('ours'), theirs: request.session.theirs };
  }

  @Get('saved')
  saved(@Session() session: Any) {
    return session.data;
  }
}

@Controller()
class UploadController {
  @Post('upload')
  @UseInterceptors(FileInterceptor('file'))
  upload(@Session() session: Any, @UploadedFile() file: { size: number }) {
    session.set('uploaded', file.size);
    return { size: file.size };
  }
}

@Module({})
class MiddlewareModule {
  configure(consumer: MiddlewareConsumer): void {
    consumer.apply(SessionMiddleware).forRoutes('{*path}');
  }
}

interface ExpressApp extends INestApplication {
  useStaticAssets(path: string, options: object): void;
}

interface FastifyApp extends INestApplication {
  register(plugin: unknown, options: object): Promise<unknown>;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nest-session-neighbours-'));
  for (const [name, text] of Object.entries(files)) await writeFile(fileAt(name), text);
});
afterAll(() => rm(folder, { recursive: true }));

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;
  const rejections: unknown[] = [];
  const note = (reason: unknown): void => void rejections.push(reason);

  async function start(
    prepare: (app: any) => unknown,
    { imports = [] as any[], controllers = [NeighbourController] as any[] } = {},
  ) {
    served = await serve(adapter, { controllers, imports, prepare });
    browser = served.browser();
  }

  beforeAll(() => void process.on('unhandledRejection', note));
  afterAll(() => void process.off('unhandledRejection', note));
  afterEach(async () => {
    await served.close();
    const unhandled = rejections.splice(0);
    // oxlint-disable-next-line jest/no-standalone-expect -- of each test above
    expect(unhandled).toEqual([]);
  });

  const routes = adapter === 'express' ? ['send-file', 'download'] : [];
  const paths = ['pipe', 'transformed', 'streamable', 'json', ...routes].flatMap((route) =>
    ['small', 'large'].map((size) => `${route}/${size}`),
  );

  const compressors: [string, (app: any) => unknown][] = [
    ['compression()', (app: INestApplication) => app.use(compression({ threshold: 0 }))],
    ...(adapter === 'fastify'
      ? [
          ['@fastify/compress', (app: FastifyApp) => app.register(compress, { threshold: 0 })] as [
            string,
            (app: any) => unknown,
          ],
        ]
      : []),
  ];

  describe.each(compressors)('behind %s', (_, prepare) => {
    it.each(paths)(
      'an answer arrives whole when its session was written, and when its extension is due: %s',
      async (path) => {
        await start(prepare);
        const expected = path.endsWith('large') ? large : small;
        for (const change of [
          (session: Any) => void session.set('written', path),
          () => served.clock.pass(40_000),
          () => {},
        ]) {
          touch = change;
          const response = await browser.get(`/${path}`).set('Accept-Encoding', 'gzip').buffer(true);
          expect(response.status).toBe(200);
          const text = response.text ?? response.body.toString();
          expect(path.startsWith('json') ? response.body.text : text).toBe(expected);
        }
        expect((await browser.get('/saved')).body).toEqual({ written: path });
      },
    );

    it('a stream of many chunks arrives whole while the store takes its time', async () => {
      await start(prepare);
      touch = (session) => void session.set('written', 'yes');
      const barrier = served.store.hold('create');
      const answered = browser
        .get('/chunks')
        .set('Accept-Encoding', 'gzip')
        .buffer(true)
        .then((one) => one);
      await barrier.reached;
      await served.http.get('/nowhere');
      barrier.release();
      const response = await answered;
      expect(response.text).toBe(Array.from({ length: 100 }, (__, index) => `chunk ${index}\n`).join(''));
      expect(sessionCookies(response)).toHaveLength(1);
    });

    it('a head that is flushed first is followed by a body of the same encoding', async () => {
      await start(prepare);
      touch = (session) => void session.set('written', 'yes');
      const response = await browser.get('/flushed').set('Accept-Encoding', 'gzip').buffer(true);
      expect(response.text).toBe('x'.repeat(100_000) + 'the end');
    });

    it('a save that fails is a 503 that can be read', async () => {
      await start(prepare);
      touch = (session) => void session.set('written', 'yes');
      for (const path of paths) {
        served.store.fail('create');
        const response = await served.http.get(`/${path}`).set('Accept-Encoding', 'gzip');
        expect([path, response.status, response.body]).toEqual([
          path,
          503,
          { statusCode: 503, message: 'Service Unavailable' },
        ]);
        served.store.recover();
      }
    });
  });

  if (adapter === 'express') {
    it('static files behind compression() and SessionMiddleware arrive whole when an extension is due', async () => {
      await start(
        (app: ExpressApp) => {
          app.use(compression({ threshold: 0 }));
          app.useStaticAssets(folder, { prefix: '/static/' });
        },
        { imports: [MiddlewareModule] },
      );
      touch = (session) => void session.set('written', 'yes');
      await browser.get('/json/small');
      for (const size of ['small', 'large'] as const) {
        served.clock.pass(40_000);
        const response = await browser.get(`/static/${size}.txt`).set('Accept-Encoding', 'gzip');
        expect(response.text).toBe(files[size]);
      }
    });

    it('an Express application that is called by the way answers with our cookie', async () => {
      const other = express();
      other.use(async (request, response, next) => {
        if (request.originalUrl !== '/other') return next();
        const session = (await served.sessions.open(request)) as Any;
        session.set('written', 'there');
        await session.regenerate();
        response.send('the other');
      });
      @Module({})
      class OtherModule {
        configure(consumer: MiddlewareConsumer): void {
          const look = (request: { session: Any }, _: object, next: () => void): void => {
            request.session.get('written');
            next();
          };
          consumer.apply(SessionMiddleware, look, other).forRoutes('{*path}');
        }
      }
      await start(() => {}, { imports: [OtherModule] });
      await browser.get('/json/small');
      const response = await browser.get('/other');
      expect(response.text).toBe('the other');
      expect((await browser.get('/saved')).body).toEqual({ written: 'there' });
    });

    it('multer takes an upload, and the session is saved with it', async () => {
      await start(() => {}, { controllers: [NeighbourController, UploadController] });
      const response = await browser.post('/upload').attach('file', Buffer.from(large), 'large.txt');
      expect(response.body).toEqual({ size: large.length });
      expect((await browser.get('/saved')).body).toEqual({ uploaded: large.length });
    });
  }

  it('helmet, and a listener of on-headers, keep their headers beside ours', async () => {
    await start((app: INestApplication) => {
      app.use(helmet());
      app.use((_: object, response: ServerResponse, next: () => void) => {
        onHeaders(response, () => void response.setHeader('X-Late', 'yes'));
        next();
      });
    });
    touch = (session) => void session.set('written', 'yes');
    const response = await browser.get('/json/small');
    expect(response.headers).toMatchObject({
      'x-late': 'yes',
      'x-content-type-options': 'nosniff',
      vary: 'Cookie',
    });
    expect(sessionCookies(response)).toHaveLength(1);
    expect((await browser.get('/saved')).body).toEqual({ written: 'yes' });
  });

  /** Another library's sessions, in front of ours or behind. */
  const secret = 'another secret of thirty-two bytes or more';
  const neighbours: Record<Adapter, [string, (app: any) => unknown][]> = {
    express: [
      [
        'express-session',
        (app: INestApplication) =>
          app.use(expressSession({ secret, name: 'other_id', resave: false, saveUninitialized: true })),
      ],
      [
        'cookie-session',
        (app: INestApplication) => app.use(cookieSession({ name: 'other_id', keys: [secret] })),
      ],
    ],
    fastify: [
      [
        '@fastify/session',
        async (app: FastifyApp) => {
          await app.register(fastifyCookie, {});
          await app.register(fastifySession, { secret, cookieName: 'other_id', cookie: { secure: false } });
        },
      ],
      [
        '@fastify/secure-session',
        (app: FastifyApp) =>
          app.register(secureSession, {
            secret,
            salt: 'sixteen bytes ok',
            cookieName: 'other_id',
            cookie: { path: '/' },
          }),
      ],
    ],
  };

  describe.each(neighbours[adapter])('beside %s', (_, prepare) => {
    it('each has its own data, request.session is the other’s, and one warning says so', async () => {
      await start(prepare);
      for (const count of [1, 2, 3]) {
        const response = await browser.get('/count');
        expect(response.body).toEqual({ ours: count, theirs: count });
      }
      expect([...browser.cookies.keys()]).toEqual(expect.arrayContaining(['other_id', 'session_id']));
      expect((await browser.get('/saved')).body).toEqual({ ours: 3 });
      expect(served.log).toEqual([expect.stringMatching(/request\.session belongs to another library/)]);
    });

    it('each has its own data when ours is opened by middleware as well', async () => {
      await start(prepare, { imports: [MiddlewareModule] });
      for (const count of [1, 2])
        expect((await browser.get('/count')).body).toEqual({ ours: count, theirs: count });
    });

    it('what is written between a chunk and the end is saved', async () => {
      await start(prepare);
      expect((await browser.get('/twice').buffer(true)).text).toBe('ab');
      expect((await browser.get('/saved')).body).toEqual({ first: 1, second: 2 });
    });

    it('a store of ours that is away is a 503, and no more', async () => {
      await start(prepare);
      await browser.get('/count');
      served.store.fail('commit');
      expect((await browser.get('/count')).status).toBe(503);
      served.store.recover();
      expect((await browser.get('/count')).body.ours).toBe(2);
    });
  });

  if (adapter === 'express') {
    it('express-session that comes after ours steps back, and what is meant for it is an error, not lost', async () => {
      @Module({})
      class BothModule {
        configure(consumer: MiddlewareConsumer): void {
          const other = expressSession({ secret, name: 'other_id', resave: false, saveUninitialized: true });
          consumer.apply(SessionMiddleware, other).forRoutes('{*path}');
        }
      }
      await start(() => {}, { imports: [BothModule] });
      expect((await browser.get('/count')).status).toBe(500);
      expect(served.log.join('\n')).toMatch(/Cannot add property theirs, object is not extensible/);
    });

    it('cookie-session that comes after ours has its own data, too', async () => {
      @Module({})
      class BothModule {
        configure(consumer: MiddlewareConsumer): void {
          consumer
            .apply(SessionMiddleware, cookieSession({ name: 'other_id', keys: [secret] }))
            .forRoutes('{*path}');
        }
      }
      await start(() => {}, { imports: [BothModule] });
      for (const count of [1, 2])
        expect((await browser.get('/count')).body).toEqual({ ours: count, theirs: count });
    });
  }
});
