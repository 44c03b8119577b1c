import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** What can go wrong between a client and the server, done to real sockets. For `SolidbServer.fail`. */

/** The connection breaks before anything is answered, and before anything is done. */
export const drop = ({ response }) => void response.socket.resetAndDestroy();

/** What was asked for is done, and then the connection breaks. */
export async function dropAnswer({ response, answer }) {
  await answer();
  response.socket.resetAndDestroy();
}

/** The answer stops in the middle, and so does the connection. */
export async function resetHalfWay({ response, answer }) {
  const { status, headers, body } = await answer();
  response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) });
  response.write(body.slice(0, body.length / 2), () => response.socket.resetAndDestroy());
}

/** The answer stops in the middle as if that were its end. */
export async function truncate({ response, answer }) {
  const { status, headers, body } = await answer();
  response.writeHead(status, headers).end(body.slice(0, body.length / 2));
}

/** The answer begins and does not go on. */
export async function stall({ response, answer }) {
  const { status, headers, body } = await answer();
  response.writeHead(status, headers).write(body.slice(0, body.length / 2));
}

/** Nothing is ever answered. */
export const hang = () => {};

/** A JSON text that does not end. */
export async function flood({ response }) {
  response.writeHead(200, { 'content-type': 'application/json' });
  const endless = Readable.from(repeat('"'.padEnd(1024 * 1024, 'x')));
  await pipeline(endless, response).catch(() => {});
}

function* repeat(text) {
  for (;;) yield text;
}

/** Any other answer. */
export const reply =
  (status, headers = {}, body = '') =>
  ({ response }) =>
    void response.writeHead(status, headers).end(body);

/** A proxy's page. */
export const page = (status = 200) =>
  reply(status, { 'content-type': 'text/html' }, '<!doctype html><title>Welcome</title>');
