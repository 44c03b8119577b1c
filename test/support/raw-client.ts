import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type Answer, readAnswer } from '../model/strict-http.mjs';

/** A request on a connection of its own, whose answer is read byte by byte. */
export class RawClient {
  readonly socket: Socket;
  /** The answer, once the server has closed the connection. */
  readonly answer: Promise<Answer>;

  constructor(url: string, path: string, headers: Record<string, string | undefined> = {}) {
    const chunks: Buffer[] = [];
    this.socket = connect(Number(new URL(url).port), '127.0.0.1');
    this.socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    this.socket.on('error', () => {});
    this.answer = once(this.socket, 'close').then(() => readAnswer(Buffer.concat(chunks)));
    const lines = Object.entries({ Host: 'test', Connection: 'close', ...headers })
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}: ${value}\r\n`);
    this.socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`);
  }
}
