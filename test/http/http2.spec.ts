import { Controller, Get, Module, Res } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { type ClientHttp2Session, connect } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { Session, SessionModule } from 'nest-session';
import { SECRET } from '../support/app.js';
import { HeldStore } from '../support/held-store.js';

@Controller()
class Http2Controller {
  @Get('value')
  value(@Session() session: Session<any>) {
    return { count: session.increment('count') };
  }

  @Get('half')
  half(@Session() session: Session<any>, @Res() reply: { hijack(): void; raw: NodeJS.WritableStream }) {
    reply.hijack();
    reply.raw.write('half of it, ');
    session.set('note', 'late');
    reply.raw.end('and the rest');
  }

  @Get('empty')
  empty(@Session() session: Session<any>, @Res() reply: { hijack(): void; raw: NodeJS.WritableStream }) {
    reply.hijack();
    session.increment('count');
    reply.raw.end();
  }
}

describe('on Fastify over HTTP/2', () => {
  const store = new HeldStore(undefined, Date.now);
  let app: NestFastifyApplication;
  let client: ClientHttp2Session;

  beforeAll(async () => {
    @Module({ imports: [SessionModule.forRoot({ secret: SECRET, store })], controllers: [Http2Controller] })
    class Root {}
    app = await NestFactory.create<NestFastifyApplication>(Root, new FastifyAdapter({ http2: true }), {
      logger: false,
    });
    await app.listen(0, '127.0.0.1');
    client = connect(`http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}`);
  });
  afterAll(async () => {
    client.close();
    await app.close();
  });

  async function get(path: string, cookie?: string) {
    const stream = client.request({ ':path': path, ...(cookie && { cookie }) });
    let text = '';
    let error: { code?: string } | undefined;
    let headers: Record<string, unknown> = {};
    stream.on('response', (given) => (headers = given));
    stream.on('data', (chunk: Buffer) => (text += String(chunk)));
    stream.on('error', (given) => (error = given));
    await new Promise((resolve) => stream.on('close', resolve));
    const [line] = (headers['set-cookie'] as string[] | undefined) ?? [];
    return { status: headers[':status'], text, error, cookie: line?.split(';')[0] };
  }

  it('a value comes with its cookie, and so does an answer without a body', async () => {
    const first = await get('/value');
    expect(first).toMatchObject({ status: 200, text: '{"count":1}', error: undefined });
    expect(await get('/value', first.cookie)).toMatchObject({ text: '{"count":2}' });
    const empty = await get('/empty');
    expect(empty).toMatchObject({ status: 200, error: undefined });
    expect(await get('/value', empty.cookie)).toMatchObject({ text: '{"count":2}' });
  });

  it('half an answer is an error, and does not pass for a whole one', async () => {
    const { cookie } = await get('/value');
    store.fail('commit');
    expect(await get('/half', cookie)).toMatchObject({
      text: 'half of it, ',
      error: { code: 'ERR_HTTP2_STREAM_ERROR' },
    });
    expect(await get('/value', cookie)).toMatchObject({ status: 503 });
    store.recover();
    expect(await get('/value', cookie)).toMatchObject({ text: '{"count":2}' });
  });
});
