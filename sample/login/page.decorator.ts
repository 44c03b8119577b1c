import { applyDecorators, Get, Header } from '@nestjs/common';

/** A route that answers a page. Pages say who is signed in, so no cache keeps them. */
export const Page = (path = '') =>
  applyDecorators(
    Get(path),
    Header('Content-Type', 'text/html; charset=utf-8'),
    Header('Cache-Control', 'no-store'),
  );
