import { once } from 'node:events';
import { io } from 'socket.io-client';
import { WebSocket } from 'ws';

/** What carries the messages. */
export type Carrier = 'ws' | 'socket.io over websocket' | 'socket.io over polling';
export const carriers: readonly Carrier[] = ['ws', 'socket.io over websocket', 'socket.io over polling'];

export interface Message {
  readonly event: string;
  readonly data: any;
}

/** A connected client: what it sends, and what arrives in turn, whichever library carries it. */
export class SocketClient {
  readonly #arrived: Message[] = [];
  readonly #waiting: ((message: Message) => void)[] = [];

  constructor(
    readonly send: (event: string, data?: unknown) => void,
    readonly close: () => void,
    /** Settles when the connection is closed, by whomever. */
    readonly closed: Promise<void>,
  ) {}

  /** Sends a message and waits for the next that arrives. */
  ask(event: string, data?: unknown): Promise<Message> {
    this.send(event, data);
    return this.next();
  }

  next(): Promise<Message> {
    const message = this.#arrived.shift();
    return message ? Promise.resolve(message) : new Promise((resolve) => this.#waiting.push(resolve));
  }

  receive(message: Message): void {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(message);
    else this.#arrived.push(message);
  }
}

/** Connects to the gateway at `path`; the cookie, if any, goes with the handshake. */
export async function connect(
  carrier: Carrier,
  url: string,
  path: string,
  cookie?: string,
): Promise<SocketClient> {
  const headers = cookie === undefined ? undefined : { Cookie: cookie };
  if (carrier === 'ws') {
    const socket = new WebSocket(url.replace('http', 'ws') + path, { headers });
    const client = new SocketClient(
      (event, data) => socket.send(JSON.stringify({ event, data })),
      () => socket.terminate(),
      new Promise((resolve) => void socket.once('close', () => resolve())),
    );
    socket.on('message', (text: Buffer) => client.receive(JSON.parse(text.toString()) as Message));
    await once(socket, 'open');
    return client;
  }
  const transport = carrier === 'socket.io over polling' ? 'polling' : 'websocket';
  const socket = io(url, { path, extraHeaders: headers, transports: [transport], forceNew: true });
  const client = new SocketClient(
    (event, data) => void socket.emit(event, data),
    () => void socket.close(),
    new Promise((resolve) => void socket.once('disconnect', () => resolve())),
  );
  // A bare send() of the server, as ws has it, is an event called message here.
  socket.on('message', (text: string) => client.receive(JSON.parse(text) as Message));
  socket.onAny((event: string, data: unknown) => event !== 'message' && client.receive({ event, data }));
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('connect_error', reject);
  });
  return client;
}
