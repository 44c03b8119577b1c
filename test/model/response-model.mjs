// One server, and one request after the other against it, each with its steps in an order of its own. What must hold
// for every one of them is in `problemsOf`. The spec beside this file starts it, watches that it goes on, and ends it.
//
//     node test/model/response-model.mjs '{"adapter":"express","fastPath":true,"depth":2}'
import 'reflect-metadata';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { Controller, Get, Module, Res } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { InterceptorsConsumer } from '@nestjs/core/interceptors/interceptors-consumer.js';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { orders, someOrders } from './orders.mjs';
import { readAnswer } from './strict-http.mjs';

const { adapter, fastPath, depth, only, sample, dist = '../../dist' } = JSON.parse(process.argv[2]);
const { MemoryStore, Session, SessionModule } = await import(`${dist}/index.js`);
const { sessionCookie } = await import(`${dist}/testing/index.js`);

/** Store calls that a request makes of itself: a load, then twice each at the handler's end, at begin, end and close. */
const OWN_CALLS = 9;
/** Store calls that an operation of the handler's adds. */
const CALLS = { save: 1, login: 2, regenerate: 1, logout: 1 };

if (!fastPath)
  Object.defineProperty(InterceptorsConsumer.prototype, Symbol.for('nest-session:fast-path'), { value: 1 });

const problems = [];
process.on('unhandledRejection', (error) => problems.push(`unhandled rejection: ${error?.stack}`));
process.on('uncaughtException', (error) => problems.push(`uncaught exception: ${error?.stack}`));

let now = Date.UTC(2026, 0, 1);
const memory = new MemoryStore({ clock: () => now });

/** The store of the scenario: it counts, fails and holds as the scenario says. */
const store = {
  calls: 0,
  fails: false,
  gate: undefined,
  restless: undefined,
  async step(operation) {
    this.calls++;
    if (this.restless) this.restless.count++;
    await this.gate?.promise;
    if (this.fails) throw new Error('connection refused');
    return operation();
  },
  hold() {
    let open;
    const promise = new Promise((resolve) => (open = resolve));
    this.gate = { promise, open };
  },
  release() {
    this.gate?.open();
    this.gate = undefined;
  },
  create: (...args) => store.step(() => memory.create(...args)),
  load: (...args) => store.step(() => memory.load(...args)),
  touch: (...args) => store.step(() => memory.touch(...args)),
  commit: (...args) => store.step(() => memory.commit(...args)),
  rotate: (...args) => store.step(() => memory.rotate(...args)),
  destroy: (...args) => store.step(() => memory.destroy(...args)),
};

/** Tells the scenario that its handler has been reached, and with what. */
let arrived;

class Routes {
  value(session) {
    return new Promise((resolve, reject) => {
      arrived({ session, end: () => resolve({ fine: true }), fail: reject });
    });
  }

  response(session, response) {
    response.hijack?.();
    return new Promise((resolve, reject) => {
      arrived({ session, raw: response.raw ?? response, end: () => resolve(), fail: reject });
    });
  }
}
decorate(Routes, 'value', [Get('value')], [Session()]);
decorate(Routes, 'response', [Get('response')], [Session(), Res()]);
Controller()(Routes);

// oxlint-disable-next-line typescript/no-extraneous-class -- a Nest module is a decorated class, empty as a rule
class Root {}
Module({
  imports: [
    SessionModule.forRoot({
      secret: 'a secret of thirty-two bytes or more, for tests',
      store,
      clock: () => now,
      storeTimeout: 600,
    }),
  ],
  controllers: [Routes],
})(Root);

const app = await NestFactory.create(
  Root,
  adapter === 'fastify' ? new FastifyAdapter() : new ExpressAdapter(),
  {
    logger: false,
  },
);
await app.listen(0, '127.0.0.1');
const { port } = app.getHttpServer().address();

/** A few turns of the event loop: what can happen by itself has happened. */
async function settle() {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function run({ kind, start, order }) {
  problems.length = 0;
  const cookie =
    start === 'stored' ? await sessionCookie(app, { cart: { items: ['pen'] }, last: 0 }) : undefined;
  const reached = new Promise((resolve) => (arrived = resolve));
  const client = new Client(`/${kind}`, cookie);
  store.calls = 0;
  const handler = await reached;
  const { session } = handler;
  const seen = {
    order,
    wrote: 0,
    writtenInTime: 0,
    isEnded: false,
    loggedIn: false,
    other: false,
    oldId: session.id,
  };
  const wasStored = !session.isNew;

  const steps = {
    write: () => session.set('last', (seen.wrote += 1)),
    mutate: () => {
      const cart = session.get('cart');
      if (cart) cart.items.push('ink');
      else session.set('first', true);
    },
    restless: () => session.set('restless', (store.restless = { count: 0 })),
    save: () => void session.save(),
    login: () => {
      void session.login('alice');
      // After the head it is refused: there is nowhere to put the new cookie.
      if (isBeforeHead(order, 'login')) seen.loggedIn = true;
    },
    regenerate: () => void session.regenerate(),
    logout: () => void session.logout(),
    head: () => handler.raw.writeHead(200, { 'Content-Type': 'text/plain' }),
    chunk: () => handler.raw.write('a chunk,'),
    end: () => {
      seen.isEnded = true;
      handler.raw.end('the end');
    },
    return: () => {
      if (kind === 'value') seen.isEnded = true;
      handler.end();
    },
    throw: () => handler.fail(new Error('a defect')),
    hangup: () => client.hangUp(),
    fail: () => (store.fails = true),
    recover: () => (store.fails = false),
    hold: () => store.hold(),
    release: () => store.release(),
    due: () => (now += 40_000_000),
    revoke: () => memory.destroy(session.id),
    other: async () => {
      const delta = { set: new Map([['data:other', '1']]), delete: [], header: { lastAccessedAt: now } };
      seen.other = (await memory.commit(session.id, delta)) === 'saved';
    },
  };
  for (const step of order) {
    if (!seen.isEnded) seen.writtenInTime = seen.wrote;
    try {
      await steps[step]();
    } catch (error) {
      // What Node and we throw at whoever goes on with an answer that is over.
      if (!/ERR_HTTP_HEADERS_SENT|ERR_STREAM_WRITE_AFTER_END|E_SESSION/.test(error.code))
        problems.push(error.stack);
    }
    if (!seen.isEnded) seen.writtenInTime = seen.wrote;
    await settle();
  }
  store.release();
  await settle();
  if (!order.includes('throw')) {
    if (kind === 'response' && !order.includes('end')) steps.end();
    await settle();
    if (!order.includes('return')) steps.return();
  }
  const answer = await client.answer;
  while ((await connections()) > 0) await settle();
  await settle();
  const found = [...problems, ...(await problemsOf(seen, answer, client, wasStored, kind))];
  Object.assign(store, { fails: false, restless: undefined });
  return found;
}

/** What must hold whatever the order was. */
async function* broken(seen, answer, client, wasStored) {
  const { order } = seen;
  const had = (step) => order.includes(step);
  if (answer.kind === 'torn') yield `no HTTP: ${JSON.stringify(answer.text)}`;
  const mayBeCut = had('fail') || had('hangup') || isLateForCookie(order, wasStored);
  if (answer.kind === 'cut' && !mayBeCut) yield `the connection was cut: ${JSON.stringify(answer.text)}`;

  const calls = OWN_CALLS + order.reduce((sum, step) => sum + (CALLS[step] ?? 0), 0);
  if (store.calls > calls) yield `${store.calls} store calls, at most ${calls} expected`;

  // What is gone stays gone.
  const moved = had('login') || had('regenerate') || had('logout');
  if (had('revoke') && !moved && wasStored && (await memory.load(seen.oldId)))
    yield 'the revoked session is back';

  // Whoever had a session has one, under the cookie that came with the answer.
  if (answer.kind === 'whole' && wasStored && !had('revoke') && !had('logout') && !(await client.record())) {
    yield `answered ${answer.status}, and the client's session is lost`;
  }

  if (answer.kind !== 'whole' || answer.status >= 400 || had('throw') || had('revoke') || had('logout'))
    return;
  // A save that needs a cookie after the headers is refused, to the handler and in the log.
  if (!wasStored && order.slice(sentAt(order)).includes('save')) return;
  // Saved before answered; merged; and under the cookie that the client has now.
  const record = await client.record();
  const last = Number(record?.fields.get('data:last') ?? 0);
  if (last < seen.writtenInTime)
    yield `answered ${answer.status}, and write ${seen.writtenInTime} is not there: ${last}`;
  if (seen.loggedIn && record?.userId !== 'alice') yield `answered ${answer.status}, and nobody is logged in`;
  if (seen.other && !record?.fields.has('data:other')) yield 'the other request’s write is lost';
  const isMoved = isBeforeHead(order, 'regenerate') && wasStored;
  if (isMoved && (await memory.load(seen.oldId))) yield 'the old id still works after regenerate()';
}

async function problemsOf(seen, answer, client, wasStored) {
  const found = [];
  for await (const problem of broken(seen, answer, client, wasStored)) found.push(problem);
  return found;
}

/** Where the headers may have left. */
function sentAt(order) {
  const at = order.findIndex((one) => ['head', 'chunk', 'end', 'return', 'throw'].includes(one));
  return at < 0 ? order.length : at;
}

function isBeforeHead(order, step) {
  return order.slice(0, sentAt(order)).includes(step);
}

/** A session that needs a new cookie after the headers have left cannot be saved, and the connection says so. */
function isLateForCookie(order, wasStored) {
  const late = order.slice(sentAt(order));
  return late.some((step) =>
    (wasStored && !order.includes('logout')
      ? ['login', 'regenerate']
      : ['write', 'mutate', 'restless', 'login']
    ).includes(step),
  );
}

/** A client on a socket of its own, that reads every byte. */
class Client {
  #socket = connect(port, '127.0.0.1');
  #hungUp = false;
  answer;

  constructor(path, cookie) {
    this.cookie = cookie;
    const chunks = [];
    this.#socket.on('data', (chunk) => chunks.push(chunk));
    this.#socket.on('error', () => {});
    this.answer = once(this.#socket, 'close').then(() =>
      this.#hungUp ? { kind: 'hung up' } : readAnswer(Buffer.concat(chunks)),
    );
    this.answer.then(({ headers }) => {
      for (const line of headers?.get('set-cookie') ?? []) {
        if (line.startsWith('session_id=')) this.cookie = line.split(';', 1)[0];
      }
    });
    this.#socket.write(
      `GET ${path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n${cookie ? `Cookie: ${cookie}\r\n` : ''}\r\n`,
    );
  }

  async hangUp() {
    this.#hungUp = true;
    if (this.#socket.destroyed) return;
    this.#socket.destroy();
    await this.answer;
    // The server hears of it through its own end of the connection.
    while ((await connections()) > 0) await settle();
  }

  async record() {
    const secret = this.cookie?.slice('session_id='.length).split('.')[0];
    return secret && memory.load(createHash('sha256').update(secret).digest('hex'));
  }
}

function connections() {
  return new Promise((resolve) => app.getHttpServer().getConnections((_, number) => resolve(number)));
}

/** What a compiler makes of decorators on a method and its parameters. */
function decorate(target, name, decorators, parameters) {
  parameters.forEach((parameter, index) => parameter(target.prototype, name, index));
  const descriptor = Object.getOwnPropertyDescriptor(target.prototype, name);
  for (const decorator of decorators) decorator(target.prototype, name, descriptor);
}

const all = only ?? (sample ? someOrders(sample.count, sample.depth, sample.seed) : orders(depth));
let count = 0;
for (const scenario of all) {
  process.send?.({ began: scenario });
  const found = await run(scenario);
  count++;
  if (found.length > 0) process.send?.({ scenario, found });
  if (found.length > 0 && !process.send) console.log(JSON.stringify(scenario), found);
}
process.send?.({ count });
if (!process.send) console.log(count);
await app.close();
process.disconnect?.();
