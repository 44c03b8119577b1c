import { ApolloDriver, type ApolloDriverConfig } from '@nestjs/apollo';
import { type DynamicModule, type Type } from '@nestjs/common';
import { GraphQLModule } from '@nestjs/graphql';
import { MercuriusDriver, type MercuriusDriverConfig } from '@nestjs/mercurius';
import { type Client, createClient, type FormattedExecutionResult } from 'graphql-ws';
import { CsrfService, type SessionModuleOptions } from 'nest-session';
import type { IncomingMessage } from 'node:http';
import { WebSocket } from 'ws';
import { type Adapter, type Served, serve } from './app.js';

/** What graphql-ws hands to a context function. */
interface ConnectionContext {
  readonly extra: { readonly request: IncomingMessage };
}

/** A way to serve GraphQL over sockets; `checked` refuses foreign connections as the README says. */
export interface Transport {
  readonly name: string;
  readonly adapter: Adapter;
  module(checked: boolean): DynamicModule;
}

type SocketOptions = NonNullable<ApolloDriverConfig['subscriptions']>['graphql-ws'];

const schema = { autoSchemaFile: true, fieldResolverEnhancers: [] };

function apollo(options: Partial<ApolloDriverConfig>, sockets?: object) {
  return (checked: boolean): DynamicModule =>
    GraphQLModule.forRootAsync<ApolloDriverConfig>({
      driver: ApolloDriver,
      inject: [CsrfService],
      useFactory: (csrf: CsrfService) => ({
        ...schema,
        ...options,
        graphiql: false,
        subscriptions: {
          'graphql-ws': {
            ...sockets,
            ...(checked && {
              onConnect: ({ extra }: ConnectionContext) => csrf.allowsHandshake(extra.request),
            }),
          } as SocketOptions,
        },
      }),
    });
}

function mercurius(options: Partial<MercuriusDriverConfig>) {
  return (checked: boolean): DynamicModule =>
    GraphQLModule.forRootAsync<MercuriusDriverConfig>({
      driver: MercuriusDriver,
      inject: [CsrfService],
      useFactory: (csrf: CsrfService) => ({
        ...schema,
        ...options,
        subscription: {
          fullWsTransport: true,
          ...(checked && {
            verifyClient: ({ req }: { req: IncomingMessage }, next: (ok: boolean) => void) =>
              next(csrf.allowsHandshake(req)),
          }),
        },
      }),
    });
}

const perOperation = { context: ({ extra }: ConnectionContext) => ({ req: extra.request }) };
const perConnection = { context: (connection: ConnectionContext) => connection };
const ofHeaders = {
  context: ({ extra }: ConnectionContext) => ({ req: { headers: extra.request.headers } }),
};

export const transports: readonly Transport[] = [
  ...(['express', 'fastify'] as const).flatMap((adapter) => [
    { name: `Apollo on ${adapter}`, adapter, module: apollo({}) },
    { name: `Apollo on ${adapter}, a context for each operation`, adapter, module: apollo({}, perOperation) },
    {
      name: `Apollo on ${adapter}, a context for the connection`,
      adapter,
      module: apollo({}, perConnection),
    },
    {
      name: `Apollo on ${adapter}, a context with the headers alone`,
      adapter,
      module: apollo({}, ofHeaders),
    },
  ]),
  { name: 'Mercurius', adapter: 'fastify', module: mercurius({}) },
  { name: 'Mercurius with compiled queries', adapter: 'fastify', module: mercurius({ jit: 1 }) },
];

interface Setup {
  controllers: Type[];
  providers: Type[];
  options?: Partial<SessionModuleOptions>;
  trustProxy?: boolean;
  checked?: boolean;
}

/** An application whose GraphQL is at /graphql, over HTTP and over sockets. */
export function serveGraphqlSockets(
  { adapter, module }: Transport,
  { checked = false, ...setup }: Setup,
): Promise<Served> {
  return serve(adapter, { ...setup, imports: [module(checked)] });
}

type Result = FormattedExecutionResult<any>;

/** A graphql-ws client with the headers of a browser, which no page can choose. */
export class GraphqlSocket {
  readonly #client: Client;
  readonly #url: string;

  constructor(url: string, headers: Record<string, string>, params?: Record<string, unknown>) {
    class BrowserSocket extends WebSocket {
      constructor(address: string, protocols: string[]) {
        super(address, protocols, { headers });
      }
    }
    this.#url = `${url.replace('http', 'ws')}/graphql`;
    this.#client = createClient({
      url: this.#url,
      webSocketImpl: BrowserSocket,
      // One connection, kept until it is closed.
      lazy: false,
      onNonLazyError: () => {},
      retryAttempts: 0,
      connectionParams: params,
    });
  }

  /** One operation: its first result. Rejects where the connection is refused. */
  async ask(query: string, variables?: Record<string, unknown>): Promise<Result> {
    const { value, done } = await this.subscribe(query, variables).next();
    if (done) throw new Error('No result came.');
    return value;
  }

  /** The results of a subscription, one after the other. */
  subscribe(query: string, variables?: Record<string, unknown>): AsyncIterableIterator<Result> {
    return this.#client.iterate({ query, variables });
  }

  async close(): Promise<void> {
    await this.#client.dispose();
  }
}
