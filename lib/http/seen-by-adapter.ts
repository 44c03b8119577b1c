import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

/** Scheme and host of a request, as an adapter sees them: trusted proxies included. */
export interface SeenRequest {
  readonly protocol?: string;
  readonly host?: string;
}

/** What an adapter judges by. */
export interface BareRequest {
  readonly headers: IncomingHttpHeaders;
  readonly socket: Socket | undefined;
}

/** Whether it came over HTTPS. Proxies write the scheme in either case (RFC 3986 §3.1), some of a handshake `wss`. */
export function overHttps({ protocol }: SeenRequest): boolean {
  return /^(?:https|wss)$/i.test(protocol ?? '');
}

type See = (request: BareRequest) => SeenRequest;

const adapters = new WeakMap<object, See>();

/** Says how the adapter of a server sees requests, for those that it is not given: upgrades. */
export function rememberAdapter(server: object, see: See): void {
  adapters.set(server, see);
}

/** A request of Node's, as the adapter of its server would see it; by its socket alone where there is no such adapter. */
export function seenByAdapter(
  request: Pick<IncomingMessage, 'headers'> & {
    readonly headersDistinct?: IncomingMessage['headersDistinct'];
    readonly socket?: Socket & { readonly encrypted?: boolean; readonly server?: object };
  },
): SeenRequest {
  const { socket } = request;
  const headers = headersThatCame(request);
  const see = socket?.server && adapters.get(socket.server);
  return see?.({ headers, socket }) ?? { protocol: socket?.encrypted ? 'https' : 'http', host: headers.host };
}

/** What is added to `headers` later is not among them: Mercurius adds what a page sends after its handshake. */
function headersThatCame(request: Partial<IncomingMessage>): IncomingHttpHeaders {
  const { headers = {}, headersDistinct } = request;
  if (!headersDistinct) return headers;
  return Object.fromEntries(Object.entries(headersDistinct).map(([name, all]) => [name, all?.join(', ')]));
}
