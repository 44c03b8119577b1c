import {
  Body,
  type CallHandler,
  type CanActivate,
  Controller,
  type ExecutionContext,
  ForbiddenException,
  Get,
  Injectable,
  type NestInterceptor,
  Post,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { WsAdapter } from '@nestjs/platform-ws';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { AuthenticatedGuard, Session, SessionInterceptor, SessionManager, SkipSession } from 'nest-session';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Adapter, type Browser, onBothAdapters, type Served, serve } from '../support/app.js';
import { type Carrier, carriers, connect, type SocketClient } from '../support/sockets.js';

@Controller()
class ChatController {
  @Get('read')
  read(@Session() session: Session<any>) {
    return { user: session.userId ?? null, topic: session.get('topic') ?? null, data: session.data };
  }

  @Post('set')
  set(@Session() session: Session<any>, @Body() values: object) {
    session.update(values);
  }

  @Post('login')
  async login(@Session() session: Session, @Body('as') as: string) {
    await session.login(as);
  }

  @Post('logout')
  async logout(@Session() session: Session) {
    await session.logout();
  }
}

const answer = (data: unknown) => ({ event: 'answer', data });

/** Looks into the session before the interceptor does. */
@Injectable()
class OpenTopicGuard implements CanActivate {
  constructor(private readonly sessions: SessionManager) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const session = (await this.sessions.open(context)) as Session<any>;
    return session.get('topic') !== 'closed';
  }
}

/** Asks the store for something of its own, between the opening of the session and the handler. */
@Injectable()
class LookupInterceptor implements NestInterceptor {
  constructor(private readonly sessions: SessionManager) {}

  async intercept(_context: ExecutionContext, next: CallHandler) {
    await this.sessions.find('0'.repeat(64));
    return next.handle();
  }
}

@WebSocketGateway({ path: '/chat' })
@UseInterceptors(SessionInterceptor)
class ChatGateway {
  @SubscribeMessage('read')
  read(@Session() session: Session<any>) {
    return answer({ user: session.userId ?? null, topic: session.get('topic') ?? null });
  }

  @SubscribeMessage('set')
  set(@Session() session: Session<any>, @MessageBody() values: object) {
    session.update(values);
    return answer('done');
  }

  @SubscribeMessage('set and fail')
  setAndFail(@Session() session: Session<any>, @MessageBody() values: object) {
    session.update(values);
    throw new Error('the line is dead');
  }

  @SubscribeMessage('set and refuse')
  setAndRefuse(@Session() session: Session<any>, @MessageBody() values: object) {
    session.update(values);
    throw new ForbiddenException();
  }

  @SubscribeMessage('login')
  async login(@Session() session: Session, @MessageBody() as: string) {
    await session.login(as);
    return answer('welcome');
  }

  @SubscribeMessage('logout')
  async logout(@Session() session: Session) {
    await session.logout();
    return answer('goodbye');
  }

  @SubscribeMessage('guarded')
  @UseGuards(OpenTopicGuard)
  guarded(@Session() session: Session<any>) {
    return answer(session.get('topic') ?? null);
  }

  @SubscribeMessage('look up')
  @UseInterceptors(LookupInterceptor)
  lookUp(@Session() session: Session) {
    return answer(`done for ${session.userId}`);
  }

  @SubscribeMessage('members only')
  @UseGuards(AuthenticatedGuard)
  membersOnly(@Session() session: Session) {
    return answer(`for ${session.userId}`);
  }
}

/** Global interceptors reach gateways as of Nest 12. */
@WebSocketGateway({ path: '/bare' })
class BareGateway {
  @SubscribeMessage('read')
  read(@Session() session: Session) {
    return answer(session.data);
  }
}

@WebSocketGateway({ path: '/skipping' })
@SkipSession()
class SkippingGateway extends BareGateway {
  @SubscribeMessage('ping')
  ping() {
    return answer('pong');
  }
}

interface Client {
  send(text: string): unknown;
  request: IncomingMessage;
}

@WebSocketGateway({ path: '/greeting' })
@UseInterceptors(SessionInterceptor)
class GreetingGateway {
  constructor(private readonly sessions: SessionManager) {}

  /** `ws` hands over the request; a socket of socket.io carries it. */
  async handleConnection(client: Client, request: IncomingMessage = client.request) {
    const greeting = await this.#greet(request).catch(String);
    client.send(JSON.stringify({ event: 'greeting', data: greeting }));
  }

  async #greet(request: IncomingMessage): Promise<string> {
    const session = (await this.sessions.open(request)) as Session<any>;
    if (session.userId === undefined) return 'hello stranger';
    session.set('topic', 'greetings');
    await session.save();
    return `hello ${session.userId}`;
  }

  @SubscribeMessage('read')
  read(@Session() session: Session<any>) {
    return answer({ user: session.userId ?? null, topic: session.get('topic') ?? null });
  }
}

function serveSockets(adapter: Adapter, carrier: Carrier): Promise<Served> {
  return serve(adapter, {
    controllers: [ChatController],
    providers: [ChatGateway, BareGateway, SkippingGateway, GreetingGateway],
    prepare: (app) => app.useWebSocketAdapter(carrier === 'ws' ? new WsAdapter(app) : new IoAdapter(app)),
  });
}

const NO_RESPONSE =
  'SessionUsageError: The session needs a new cookie, but there is no response to put it in: ' +
  'sockets and subscriptions can change a session, not create it or log in.';

onBothAdapters((adapter) => {
  describe.each(carriers.map((carrier) => [carrier]))('with %s', (carrier) => {
    let served: Served;
    let ann: Browser;
    let clients: SocketClient[];
    beforeAll(async () => {
      served = await serveSockets(adapter, carrier);
    });
    afterAll(() => served.close());
    beforeEach(async () => {
      clients = [];
      ann = await member('ann');
    });
    afterEach(() => {
      served.store.recover();
      for (const client of clients) client.close();
    });

    /** A browser that has logged in over HTTP. */
    async function member(name: string): Promise<Browser> {
      const browser = served.browser();
      await browser.post('/login', { as: name });
      forget();
      return browser;
    }

    /** Whatever went to the store or into the log so far does not count. */
    function forget(): void {
      served.store.drain();
      served.log.length = 0;
    }

    /** A socket whose handshake carried the browser's cookie. */
    async function socketOf(browser: Browser | undefined, path = '/chat'): Promise<SocketClient> {
      const client = await connect(carrier, served.url, path, browser?.cookie);
      clients.push(client);
      return client;
    }

    describe('a message', () => {
      it('sees the session whose cookie came with the handshake', async () => {
        const socket = await socketOf(ann);
        expect(served.store.drain()).toEqual([]);
        expect(await socket.ask('read')).toEqual(answer({ user: 'ann', topic: null }));
        expect(served.store.drain()).toEqual(['load']);
      });

      it('sees a visitor where no cookie came, and asks no store', async () => {
        const socket = await socketOf(undefined);
        expect(await socket.ask('read')).toEqual(answer({ user: null, topic: null }));
        expect(served.store.drain()).toEqual([]);
      });

      it('sets a value for the next message and the next request', async () => {
        const socket = await socketOf(ann);
        expect(await socket.ask('set', { topic: 'tea' })).toEqual(answer('done'));
        expect(served.store.drain()).toEqual(['load', 'commit']);
        expect(await socket.ask('read')).toEqual(answer({ user: 'ann', topic: 'tea' }));
        expect((await ann.get('/read')).body).toMatchObject({ user: 'ann', topic: 'tea' });
      });

      it('is answered when the store has what it set, and not before', async () => {
        const socket = await socketOf(ann);
        const commit = served.store.hold('commit');
        socket.send('set', { topic: 'tea' });
        await commit.reached;
        // An answer that had been sent already would arrive before this one.
        expect(await socket.ask('read')).toEqual(answer({ user: 'ann', topic: null }));
        commit.release();
        expect(await socket.next()).toEqual(answer('done'));
      });

      it('sees what a request has set since the last one', async () => {
        const socket = await socketOf(ann);
        await socket.ask('set', { topic: 'tea' });
        await ann.post('/set', { topic: 'coffee' });
        expect(await socket.ask('read')).toEqual(answer({ user: 'ann', topic: 'coffee' }));
      });

      it('saves nothing when its handler throws an unknown error', async () => {
        const socket = await socketOf(ann);
        const { event, data } = await socket.ask('set and fail', { topic: 'tea' });
        expect([event, data.message]).toEqual(['exception', 'Internal server error']);
        expect(served.store.drain()).toEqual(['load']);
        expect(await socket.ask('read')).toEqual(answer({ user: 'ann', topic: null }));
      });

      it('saves what its handler has set before it refuses with an HttpException below 500', async () => {
        const socket = await socketOf(ann);
        expect(await socket.ask('set and refuse', { topic: 'tea' })).toMatchObject({ event: 'exception' });
        expect(served.store.drain()).toEqual(['load', 'commit']);
        expect(await socket.ask('read')).toEqual(answer({ user: 'ann', topic: 'tea' }));
      });

      it('opens its session once for a guard and for the interceptor', async () => {
        const socket = await socketOf(ann);
        await socket.ask('set', { topic: 'tea' });
        served.store.drain();
        expect(await socket.ask('guarded')).toEqual(answer('tea'));
        expect(served.store.drain()).toEqual(['load']);
      });

      it('is refused by a guard that looks into the session', async () => {
        const socket = await socketOf(ann);
        await socket.ask('set', { topic: 'closed' });
        expect(await socket.ask('guarded')).toMatchObject({
          event: 'exception',
          data: { message: 'Forbidden resource' },
        });
      });

      it('gets past AuthenticatedGuard for a member, and not for a visitor', async () => {
        expect(await (await socketOf(ann)).ask('members only')).toEqual(answer('for ann'));
        served.store.drain();
        expect(await (await socketOf(undefined)).ask('members only')).toMatchObject({ event: 'exception' });
        expect(served.store.drain()).toEqual([]);
      });
    });

    describe('messages at the same time', () => {
      it('have each the session of their own socket', async () => {
        const [first, second] = [await socketOf(ann), await socketOf(await member('bob'))];
        const [opening, lookup] = [served.store.hold('load'), served.store.hold('load')];
        const held = first.ask('look up');
        await opening.reached;
        opening.release();
        // The session of the first is open, and its handler not called yet, when the second comes and goes.
        await lookup.reached;
        expect(await second.ask('look up')).toEqual(answer('done for bob'));
        lookup.release();
        expect(await held).toEqual(answer('done for ann'));
      });

      it('do not lose what the others write', async () => {
        const [first, second] = [await socketOf(ann), await socketOf(ann)];
        const commit = served.store.hold('commit');
        const held = first.ask('set', { topic: 'tea' });
        await commit.reached;
        expect(await second.ask('set', { sugar: 2 })).toEqual(answer('done'));
        commit.release();
        expect(await held).toEqual(answer('done'));
        expect((await ann.get('/read')).body.data).toEqual({ userId: 'ann', topic: 'tea', sugar: 2 });
      });
    });

    describe('after the session has ended', () => {
      it('by a logout over HTTP, the next message sees no user', async () => {
        const socket = await socketOf(ann);
        expect(await socket.ask('members only')).toEqual(answer('for ann'));
        await ann.post('/logout');
        expect(await socket.ask('read')).toEqual(answer({ user: null, topic: null }));
        expect(await socket.ask('members only')).toMatchObject({ event: 'exception' });
      });

      it('by a logout in a message, the next message and the next request see no user', async () => {
        const socket = await socketOf(ann);
        expect(await socket.ask('logout')).toEqual(answer('goodbye'));
        expect(await socket.ask('read')).toEqual(answer({ user: null, topic: null }));
        expect((await ann.get('/read')).body.user).toBeNull();
      });

      it('by revoking it, the next message sees no user', async () => {
        const bob = await member('bob');
        const socket = await socketOf(bob);
        await served.sessions.clear();
        expect(await socket.ask('read')).toEqual(answer({ user: null, topic: null }));
      });

      it('by its age, the next message sees no user', async () => {
        const socket = await socketOf(ann);
        served.clock.pass(24 * 60 * 60);
        expect(await socket.ask('read')).toEqual(answer({ user: null, topic: null }));
      });

      it('a message that was under way does not bring it back', async () => {
        const socket = await socketOf(ann);
        const before = ann.copy();
        const commit = served.store.hold('commit');
        const held = socket.ask('set', { topic: 'tea' });
        await commit.reached;
        await ann.post('/logout');
        commit.release();
        await held;
        expect((await before.get('/read')).body).toEqual({ user: null, topic: null, data: {} });
      });
    });

    describe('what needs a new cookie', () => {
      it('is refused to a visitor, whose session would begin here, and nothing is created', async () => {
        const before = await served.sessions.count();
        const socket = await socketOf(undefined);
        expect(await socket.ask('set', { topic: 'tea' })).toMatchObject({ event: 'exception' });
        expect(served.log).toEqual([expect.stringContaining(NO_RESPONSE)]);
        expect(served.store.drain()).toEqual([]);
        expect(await served.sessions.count()).toBe(before);
      });

      it('is refused to a login of a visitor', async () => {
        const before = await served.sessions.count();
        const socket = await socketOf(undefined);
        expect(await socket.ask('login', 'eve')).toMatchObject({ event: 'exception' });
        expect(served.log).toEqual([expect.stringContaining(NO_RESPONSE)]);
        expect(served.store.drain()).toEqual([]);
        expect(await served.sessions.count()).toBe(before);
      });

      it('is refused to a login as someone else, and the session stays what it was', async () => {
        const socket = await socketOf(ann);
        expect(await socket.ask('login', 'eve')).toMatchObject({ event: 'exception' });
        expect(served.log).toEqual([expect.stringContaining(NO_RESPONSE)]);
        expect(served.store.drain()).toEqual(['load']);
        expect(await socket.ask('read')).toMatchObject({ data: { user: 'ann' } });
        expect((await ann.get('/read')).body.user).toBe('ann');
      });
    });

    describe('a store that is down', () => {
      it('fails a message that would write, and keeps nothing', async () => {
        const socket = await socketOf(ann);
        served.store.fail('commit');
        const { event, data } = await socket.ask('set', { topic: 'tea' });
        expect([event, data.message]).toEqual(['exception', 'Internal server error']);
        served.store.recover();
        expect(await socket.ask('read')).toEqual(answer({ user: 'ann', topic: null }));
      });

      it('fails a message that would read, and is no logout', async () => {
        const socket = await socketOf(ann);
        served.store.fail('load');
        expect(await socket.ask('members only')).toMatchObject({ event: 'exception' });
        served.store.recover();
        expect(await socket.ask('members only')).toEqual(answer('for ann'));
      });

      it('is in the log, since the client is told nothing about it', async () => {
        const socket = await socketOf(ann);
        served.store.fail('load');
        await socket.ask('read');
        expect(served.log.join()).toContain('The session store could not be reached (load)');
      });
    });

    describe('a gateway without the interceptor', () => {
      it('has its sessions from the global one', async () => {
        const socket = await socketOf(ann, '/bare');
        expect(await socket.ask('read')).toEqual(answer({ userId: 'ann' }));
        expect(served.store.drain()).toEqual(['load']);
      });

      it('says where to put it when none reaches the handler, and asks no store', async () => {
        const socket = await socketOf(ann, '/skipping');
        expect(await socket.ask('ping')).toEqual(answer('pong'));
        expect(await socket.ask('read')).toMatchObject({ event: 'exception' });
        expect(served.log).toEqual([
          expect.stringMatching(
            /SessionUsageError: No session was opened.*@UseInterceptors\(SessionInterceptor\)/s,
          ),
        ]);
        expect(served.store.drain()).toEqual([]);
      });
    });

    describe('handleConnection', () => {
      it('can open the session of the handshake, and save it', async () => {
        const socket = await socketOf(ann, '/greeting');
        expect(await socket.next()).toEqual({ event: 'greeting', data: 'hello ann' });
        expect(served.store.drain()).toEqual(['load', 'commit']);
        expect((await ann.get('/read')).body.topic).toBe('greetings');
      });

      it('can open it where no cookie came', async () => {
        const socket = await socketOf(undefined, '/greeting');
        expect(await socket.next()).toEqual({ event: 'greeting', data: 'hello stranger' });
        expect(served.store.drain()).toEqual([]);
      });

      it('can open it on what was due to be extended, though there is no cookie to extend', async () => {
        served.clock.pass(12 * 60 * 60);
        const socket = await socketOf(ann, '/greeting');
        expect(await socket.next()).toEqual({ event: 'greeting', data: 'hello ann' });
      });

      it('does not keep later messages from loading anew', async () => {
        const socket = await socketOf(ann, '/greeting');
        await socket.next();
        expect(await socket.ask('read')).toEqual(answer({ user: 'ann', topic: 'greetings' }));
        await ann.post('/logout');
        expect(await socket.ask('read')).toEqual(answer({ user: null, topic: null }));
      });
    });
  });
});

/** Keeps the request that only the connection has, as the error recommends. */
@WebSocketGateway({ path: '/keeping' })
class KeepingGateway extends ChatGateway {
  handleConnection(client: Client, request: IncomingMessage) {
    client.request = request;
  }
}

@WebSocketGateway({ path: '/plain' })
class PlainGateway {
  @SubscribeMessage('ping')
  ping() {
    return answer('pong');
  }
}

describe('ws on a server of its own, whose handshakes nobody remembers', () => {
  let server: Server;
  let served: Served;
  let ann: Browser;
  let clients: SocketClient[];
  beforeAll(async () => {
    server = createServer().listen(0, '127.0.0.1');
    served = await serve('express', {
      controllers: [ChatController],
      providers: [ChatGateway, KeepingGateway, PlainGateway],
      prepare: (app) => app.useWebSocketAdapter(new WsAdapter(server)),
    });
    ann = served.browser();
    await ann.post('/login', { as: 'ann' });
  });
  afterAll(async () => {
    await served.close();
    await new Promise((resolve) => server.close(resolve));
  });
  beforeEach(() => void (clients = []));
  afterEach(() => clients.forEach((client) => client.close()));

  async function socketOf(browser: Browser, path: string): Promise<SocketClient> {
    const { port } = server.address() as AddressInfo;
    const client = await connect('ws', `http://127.0.0.1:${port}`, path, browser.cookie);
    clients.push(client);
    return client;
  }

  it('says how to keep the request', async () => {
    const socket = await socketOf(ann, '/chat');
    expect(await socket.ask('read')).toMatchObject({ event: 'exception' });
    expect(served.log).toEqual([
      expect.stringContaining(
        'There is no handshake request for this socket. Keep it when the client connects: ' +
          'handleConnection(client, request) { client.request = request; }',
      ),
    ]);
  });

  it('has sessions on a gateway that keeps it', async () => {
    const socket = await socketOf(ann, '/keeping');
    expect(await socket.ask('read')).toEqual(answer({ user: 'ann', topic: null }));
  });

  it('does not trouble a gateway that has nothing to do with sessions', async () => {
    const socket = await socketOf(ann, '/plain');
    expect(await socket.ask('ping')).toEqual(answer('pong'));
  });
});
