import { HttpException, HttpStatus } from '@nestjs/common';
import { STATUS_CODES, type ServerResponse } from 'node:http';

/** Headers that describe a body which will not be sent. */
const OF_THE_BODY =
  /^(content-.*|transfer-encoding|trailer|etag|last-modified|location|cache-control|expires|accept-ranges)$/i;

/** Turns a response whose headers have not left into an error: JSON, as Nest answers, that no cache keeps. */
export function sendError(response: ServerResponse, error: unknown, end: (body: Buffer) => void): void {
  for (const name of response.getHeaderNames()) {
    if (OF_THE_BODY.test(name)) response.removeHeader(name);
  }
  const status = error instanceof HttpException ? error.getStatus() : HttpStatus.INTERNAL_SERVER_ERROR;
  const body = Buffer.from(JSON.stringify({ statusCode: status, message: STATUS_CODES[status] }));
  response.setHeader('Content-Type', 'application/json; charset=utf-8');
  response.setHeader('Content-Length', body.length);
  response.setHeader('Cache-Control', 'no-store');
  response.statusCode = status;
  response.statusMessage = '';
  end(body);
}
