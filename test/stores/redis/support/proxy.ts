import { once } from 'node:events';
import { createServer, connect, type Server, type Socket } from 'node:net';

/** A network between a client and a server on this machine: slow, or cut in the middle of a command or an answer. */
export class Proxy {
  /** Milliseconds that each direction takes. */
  delay = 0;
  /** Swallows everything, as a network does that has lost its way. */
  silent = false;
  /** Bytes from clients to let through before every connection is cut, once. */
  cutAfter = Infinity;
  /** Answers to let through before one is lost, and every connection with it, once. */
  loseAnswer = Infinity;
  readonly #sockets = new Set<Socket>();

  private constructor(
    private readonly server: Server,
    readonly port: number,
    /** Where the next connections lead. */
    public target: number,
  ) {}

  static async start(target: number, port = 0): Promise<Proxy> {
    const server = createServer().listen(port, '127.0.0.1');
    await once(server, 'listening');
    const proxy = new Proxy(server, (server.address() as { port: number }).port, target);
    server.on('connection', (client) => proxy.#join(client, connect(proxy.target, '127.0.0.1')));
    return proxy;
  }

  async stop(): Promise<void> {
    this.cut();
    this.server.close();
    await once(this.server, 'close');
  }

  #join(client: Socket, server: Socket): void {
    for (const [from, to] of [
      [client, server],
      [server, client],
    ]) {
      this.#sockets.add(from);
      from.setNoDelay(true);
      from.on('error', () => {});
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.on('data', (data) => {
        if (this.silent) return;
        if (from === server && this.loseAnswer-- === 0) {
          this.loseAnswer = Infinity;
          this.cut();
          return;
        }
        const passing = from === client ? this.#pass(data) : data;
        const forward = (): void => {
          if (to.writable) to.write(passing);
          if (passing.length < data.length) setImmediate(() => this.cut());
        };
        if (this.delay > 0) setTimeout(forward, this.delay);
        else forward();
      });
    }
  }

  #pass(data: Buffer): Buffer {
    if (data.length <= this.cutAfter) {
      this.cutAfter -= data.length;
      return data;
    }
    const passing = data.subarray(0, this.cutAfter);
    this.cutAfter = Infinity;
    return passing;
  }

  /** Breaks every connection. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
