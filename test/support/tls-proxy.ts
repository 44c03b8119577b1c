import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { generate } from 'selfsigned';

/** A proxy that ends TLS, for WebSockets. */
export interface TlsProxy {
  readonly url: string;
  close(): Promise<void>;
}

/** Passes handshakes on to `target`, with the headers of `add` beside or in place of the browser's. */
export async function serveTlsProxy(
  target: string,
  add: (host: string) => Record<string, string>,
): Promise<TlsProxy> {
  const { private: key, cert } = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
    algorithm: 'sha256',
  });
  const server = createServer({ key, cert });
  const sockets = new Set<Socket>();
  server.on('upgrade', (request: IncomingMessage, client: Socket, head: Buffer) => {
    const upstream = connect(Number(new URL(target).port), '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => sockets.delete(socket));
    }
    const headers = { ...request.headers, ...add(request.headers.host as string) };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${String(value)}`);
    upstream.write([`GET ${request.url} HTTP/1.1`, ...lines, '', ''].join('\r\n'));
    upstream.write(head);
    upstream.pipe(client).pipe(upstream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
