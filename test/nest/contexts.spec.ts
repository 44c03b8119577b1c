import { Controller, type ExecutionContext, Get, Injectable, UseInterceptors } from '@nestjs/common';
import { ROUTE_ARGS_METADATA } from '@nestjs/common/constants.js';
import { ExecutionContextHost } from '@nestjs/core/helpers/execution-context-host.js';
import { ExternalContextCreator } from '@nestjs/core/helpers/external-context-creator.js';
import { Session, SessionInterceptor, type SessionManager, SessionUsageError } from 'nest-session';
import { onBothAdapters, type Served, serve } from '../support/app.js';

@Controller()
class EmptyController {
  @Get()
  nothing() {}
}

/** A handler of messages that come from a queue: there is no HTTP request anywhere near. */
@Injectable()
class QueueHandler {
  plain() {
    return 'handled';
  }

  @UseInterceptors(SessionInterceptor)
  intercepted() {
    return 'handled';
  }

  withSession(@Session() session: Session) {
    return session.id;
  }
}

function contextOf(type: string, args: unknown[]): ExecutionContext {
  const context = new ExecutionContextHost(args, QueueHandler, QueueHandler.prototype.plain);
  context.setType(type);
  return context;
}

/** A refusal that says what is wrong. */
function usage(...words: string[]) {
  return expect.objectContaining({
    code: 'E_SESSION_USAGE',
    message: expect.stringMatching(new RegExp(words.join('.*'), 's')),
  });
}

onBothAdapters((adapter) => {
  let served: Served;
  let sessions: SessionManager;
  beforeAll(async () => {
    served = await serve(adapter, { controllers: [EmptyController], providers: [QueueHandler] });
    sessions = served.sessions;
  });
  afterAll(() => served.close());

  describe('open()', () => {
    it('refuses a microservice message: it has no request', async () => {
      const opening = sessions.open(contextOf('rpc', [{ some: 'data' }, {}]));
      await expect(opening).rejects.toBeInstanceOf(SessionUsageError);
      await expect(opening).rejects.toEqual(
        usage('no HTTP request', 'no session', 'context of type "rpc"', 'http, graphql and ws'),
      );
    });

    it('refuses a kind of context it has never heard of, by name', async () => {
      await expect(sessions.open(contextOf('telegram', [{}]))).rejects.toEqual(
        usage('context of type "telegram"'),
      );
    });

    it.each([
      ['an empty object', {}],
      ['a request body', { headersSent: true }],
      ['text for headers', { headers: 'cookie: a=b' }],
    ])('refuses %s: that is no request', async (_, from: object) => {
      const opening = sessions.open(from);
      await expect(opening).rejects.toBeInstanceOf(SessionUsageError);
      await expect(opening).rejects.toEqual(usage('no HTTP request', 'has no headers', 'ExecutionContext'));
    });

    it.each([[undefined], [null]])(
      'refuses %p, such as the request that a ws socket does not have',
      async (from: unknown) => {
        await expect(sessions.open(from as object)).rejects.toEqual(
          usage('no HTTP request', 'has no headers', 'ExecutionContext'),
        );
      },
    );

    it('refuses an http context whose request is none', async () => {
      await expect(sessions.open(contextOf('http', [undefined, undefined]))).rejects.toEqual(
        usage('no HTTP request'),
      );
    });

    it.each([
      ['an empty GraphQL context', {}],
      ['none', undefined],
      ['one whose request is none', { req: {} }],
    ])('says what to put into %s', async (_, context) => {
      await expect(sessions.open(contextOf('graphql', [{}, {}, context, {}]))).rejects.toEqual(
        usage('no request in the GraphQL context', 'GraphQLModule.forRoot', '{ req, res }'),
      );
    });

    it.each([
      ['a socket', {}],
      ['no socket', undefined],
    ])('says where to keep the handshake of %s that has none', async (_, client) => {
      await expect(sessions.open(contextOf('ws', [client, 'data', 'pattern']))).rejects.toEqual(
        usage('no handshake request', 'handleConnection'),
      );
    });
  });

  describe('a handler that Nest runs outside of any request', () => {
    /** As libraries for queues and bots do it: with the global guards, interceptors and filters. */
    function handle(method: keyof QueueHandler, type = 'rpc'): Promise<unknown> {
      const handler = served.app.get(QueueHandler);
      const run = served.app
        .get(ExternalContextCreator)
        .create(
          handler,
          handler[method] as (...args: unknown[]) => unknown,
          method,
          ROUTE_ARGS_METADATA,
          { exchangeKeyForValue: () => undefined },
          undefined,
          undefined,
          undefined,
          type,
        );
      return run({ some: 'data' }, {});
    }

    it.each(['rpc', 'rmq', 'http'])(
      'is not troubled by the module, in a context of type %s',
      async (type) => {
        expect(await handle('plain', type)).toBe('handled');
        expect(await handle('intercepted', type)).toBe('handled');
      },
    );

    it('gets an error that says so when it asks for @Session()', async () => {
      const handling = handle('withSession');
      await expect(handling).rejects.toBeInstanceOf(SessionUsageError);
      await expect(handling).rejects.toEqual(usage('no HTTP request', 'no session', 'context of type "rpc"'));
    });
  });
});
