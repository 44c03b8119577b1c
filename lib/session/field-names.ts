/**
 * The fields of a record, by what their names begin with. Stores know none of them.
 *
 *     data:<key>     what a handler has set
 *     flash:<key>    a flash message
 *     login:<what>   where a login came from
 *     id:<what>      what belongs to the session's id: a rotation drops it
 */
export const DATA = 'data:';
export const FLASH = 'flash:';
export const BOUND_TO_ID = 'id:';

/** When the user logged in: milliseconds since the epoch. */
export const LOGIN_AT = 'login:at';
/** The User-Agent header of the login. */
export const LOGIN_AGENT = 'login:userAgent';
/** The client's address at login. */
export const LOGIN_IP = 'login:ip';

/** The secret of the visitor whose session this became; see `CsrfService`. */
export const VISITOR_CSRF = `${BOUND_TO_ID}csrf`;
