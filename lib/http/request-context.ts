import type { ExecutionContext } from '@nestjs/common';
import { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { SessionUsageError } from '../errors.js';
import { stateIn } from './request-state.js';
import { overHttps, seenByAdapter } from './seen-by-adapter.js';

/** The parts of an HTTP request that sessions look at, on Express, on Fastify and on `node:http` itself. */
export type HttpRequest = Pick<IncomingMessage, 'headers' | 'method' | 'url'> & {
  readonly raw?: IncomingMessage;
  readonly socket?: Socket & { readonly encrypted?: boolean };
  /** `http` or `https`, as the adapter sees it: trusted proxies included. */
  readonly protocol?: string;
  /** Host and port, as the adapter sees them. */
  readonly host?: string;
  readonly originalUrl?: string;
  /** The client's address, as the adapter sees it. */
  readonly ip?: string;
  /** What the method was before an override. */
  readonly originalMethod?: string;
  readonly body?: unknown;
  readonly res?: ServerResponse;
  session?: unknown;
};

/** Where a session belongs: the request whose cookie names it, and what goes with that. */
export interface Located {
  readonly request: HttpRequest;
  /** Absent where there is none to write a cookie to: sockets, subscriptions, bare requests. */
  readonly response: ServerResponse | undefined;
  /** What remembers the session: one per HTTP request, one per socket message, one per GraphQL operation of a socket. */
  readonly owner: object;
}

/** Finds the request in the context of a controller, a GraphQL resolver or a gateway's message handler. */
export function locate(context: ExecutionContext): Located {
  switch (context.getType<string>()) {
    case 'http':
      // Not by switchToHttp(), which makes three closures each time.
      return locateRequest(context.getArgByIndex(0), context.getArgByIndex(1));
    case 'graphql':
      return locateGraphql(context.getArgByIndex(2), context.getArgByIndex(3));
    case 'ws': {
      const request = handshakeOf(context.switchToWs().getClient());
      return { request, response: undefined, owner: context.getArgs() };
    }
    default:
      throw new SessionUsageError(
        `There is no HTTP request, and so no session, in a context of type "${context.getType()}". ` +
          'Sessions work in http, graphql and ws contexts.',
      );
  }
}

/** Whether there is a request behind a context: not behind every subscription or socket, and no microservice. */
export function hasRequest(context: ExecutionContext): boolean {
  switch (context.getType<string>()) {
    case 'http':
      return isRequest(context.getArgByIndex(0));
    case 'graphql':
      return isRequest(graphqlRequest(context.getArgByIndex(2)));
    case 'ws':
      return isRequest(handshakeRequest(context.switchToWs().getClient()));
    default:
      return false;
  }
}

/** Either: what `SessionManager.open()` and `CsrfService` take. A socket's handshake is opened anew each time. */
export function locateFrom(from: ExecutionContext | object): Located {
  if (typeof (from as ExecutionContext | undefined)?.switchToHttp === 'function')
    return locate(from as ExecutionContext);
  return isRequest(from) && isUpgrade(from) ? locateHandshake(from, {}) : locateRequest(from);
}

/** The same for a bare request: Express's, Fastify's or Node's. */
export function locateRequest(request: unknown, response?: unknown): Located {
  if (!isRequest(request)) {
    throw new SessionUsageError(
      'This is no HTTP request: it has no headers. Pass the request or the ExecutionContext to open().',
    );
  }
  const owner = ownerOf(request);
  const reply = (response ?? request.res ?? stateIn(owner)?.response) as Reply | undefined;
  return { request, response: reply && rawOf(reply), owner };
}

/** A socket has no response to put a cookie in, whatever its library calls one. */
function locateHandshake(request: HttpRequest, owner: object): Located {
  return { request, response: undefined, owner };
}

/** Whether a request opens a WebSocket (RFC 6455 §4.1). It is a GET, and yet what follows on it may change something. */
export function isUpgrade({ method = 'GET', headers }: HttpRequest): boolean {
  return method === 'GET' && /\bwebsocket\b/i.test(headers.upgrade ?? '');
}

// On Express V8 knows the shape of no request: a property costs it a search, and who is an instance of what does not.

/** Fastify wraps the request of Node's, which its middleware gets as it is. */
export function ownerOf(request: HttpRequest): HttpRequest {
  return request instanceof IncomingMessage ? request : (request.raw ?? request);
}

/** A response of Express's, or what Fastify wraps it in. */
export type Reply = ServerResponse | { readonly raw?: ServerResponse };

export function rawOf(reply: Reply): ServerResponse {
  return reply instanceof ServerResponse ? reply : (reply.raw ?? (reply as ServerResponse));
}

/** Whether the request came over HTTPS, by the adapter's own trusted-proxy rules. */
export function isHttps(request: HttpRequest): boolean {
  return overHttps(request.protocol === undefined ? seenByAdapter(request) : request);
}

interface GraphqlContext {
  readonly req?: unknown;
  readonly res?: unknown;
  readonly request?: unknown;
  readonly reply?: { readonly request?: unknown };
  readonly extra?: { readonly request?: unknown };
}

/** What a resolver is told of the execution it is called in. */
interface GraphqlInfo {
  readonly operation?: { readonly operation?: string };
  /** Made for each execution. In graphql 17 the events of a subscription share those of its beginning. */
  readonly variableValues?: object;
  readonly path?: GraphqlPath;
}

interface GraphqlPath {
  readonly prev?: GraphqlPath;
}

/** Apollo puts `req` and `res` in the context, Mercurius `reply`, graphql-ws `extra.request`. */
function locateGraphql(context: GraphqlContext | undefined, info: GraphqlInfo): Located {
  const request = graphqlRequest(context);
  if (!isRequest(request)) {
    throw new SessionUsageError(
      'There is no request in the GraphQL context. Put it there: GraphQLModule.forRoot({ context: (…) => ({ req, res }) }).',
    );
  }
  return isUpgrade(request)
    ? locateHandshake(request, executionOf(request, info))
    : locateRequest(request, context?.res ?? context?.reply);
}

/** Without a context function Nest hands over that of graphql-ws as `req`. */
function graphqlRequest(context: GraphqlContext | undefined): unknown {
  const { req, request, reply, extra = (req as GraphqlContext | undefined)?.extra } = context ?? {};
  return [req, request, reply?.request, extra?.request].find(isRequest);
}

type Tree = WeakMap<object, Tree>;

const executions: Tree = new WeakMap();

/**
 * What lives as long as one operation on a socket, or as one event of a subscription. The context does not: it may be
 * one for the connection. The request is part of the key, since an executor may share what it compiled.
 */
function executionOf(request: HttpRequest, info: GraphqlInfo): object {
  const keys: object[] = [ownerOf(request), info.variableValues ?? info];
  if (info.operation?.operation === 'subscription' && info.path) keys.push(rootOf(info.path));
  return keys.reduce<Tree>((tree, key) => {
    const known = tree.get(key);
    if (known) return known;
    const added: Tree = new WeakMap();
    tree.set(key, added);
    return added;
  }, executions);
}

/** The path of the field that an execution began with: made for each. Ends, since paths are as deep as the query. */
function rootOf(path: GraphqlPath): GraphqlPath {
  let root = path;
  while (root.prev) root = root.prev;
  return root;
}

/** The upgrade requests of `ws` sockets, which the library itself does not keep; see {@link rememberUpgrades}. */
const upgrades = new WeakMap<object, IncomingMessage>();

/**
 * Remembers the request behind each upgraded socket of a server that already accepts upgrades. (On one that does
 * not, a listener would change how Node answers such requests.)
 */
export function rememberUpgrades(server: unknown): void {
  const emitter = server as NodeJS.EventEmitter | undefined;
  if (!emitter?.listenerCount?.('upgrade')) return;
  emitter.prependListener('upgrade', (request: IncomingMessage, socket: Socket) =>
    upgrades.set(socket, request),
  );
}

interface SocketClient {
  readonly request?: unknown;
  readonly _socket?: object;
}

function handshakeOf(client: SocketClient | undefined): HttpRequest {
  const request = handshakeRequest(client);
  if (isRequest(request)) return request;
  throw new SessionUsageError(
    'There is no handshake request for this socket. Keep it when the client connects: ' +
      'handleConnection(client, request) { client.request = request; }',
  );
}

/** socket.io keeps the handshake request on the socket; for `ws` it is found by the TCP socket underneath. */
function handshakeRequest(client: SocketClient | undefined): unknown {
  return client?.request ?? (client?._socket && upgrades.get(client._socket));
}

/** True for a request of Express's, of Fastify's or of Node's. */
export function isRequest(value: unknown): value is HttpRequest {
  return value instanceof IncomingMessage || typeof (value as HttpRequest | undefined)?.headers === 'object';
}
