import { HttpException, HttpStatus } from '@nestjs/common';

/**
 * The request is not logged in: 401. With `location`, a redirect there: 302, or 303 after a method other than GET or
 * HEAD (RFC 9110 §15.4.4).
 */
export class LoginRequiredException extends HttpException {
  readonly code = 'E_SESSION_LOGIN_REQUIRED';

  constructor(
    message: string,
    status: HttpStatus.UNAUTHORIZED | HttpStatus.FOUND | HttpStatus.SEE_OTHER = HttpStatus.UNAUTHORIZED,
    readonly location?: string,
  ) {
    super({ statusCode: status, message }, status);
  }
}
