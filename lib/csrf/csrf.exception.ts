import { HttpException, HttpStatus } from '@nestjs/common';
import type { CsrfRefusal } from '../session/session-events.js';

/**
 * `CsrfGuard` refused the request: 403 with the message "Missing CSRF token" or "Invalid CSRF token". `code` and
 * `check` say which check it was, to the log and to clients that can do something about it.
 */
export class CsrfException extends HttpException {
  readonly code: string;

  constructor(readonly check: CsrfRefusal) {
    const message = check === 'token-missing' ? 'Missing CSRF token' : 'Invalid CSRF token';
    const code = `E_SESSION_CSRF_${check.toUpperCase().replace('-', '_')}`;
    super({ statusCode: HttpStatus.FORBIDDEN, message, code }, HttpStatus.FORBIDDEN);
    this.code = code;
  }
}
