/** For every library: the secret, and a cookie with these attributes, for a day. It is plain HTTP, so not Secure. */
export const SECRET = 'a secret of thirty-two bytes or more, for the benchmark';
export const DAY = 86_400;
export const attributes = { path: '/', httpOnly: true, sameSite: 'lax', secure: false };

/** What a handler answers that looks at no session: as long as the name that is read. */
export const NAME = 'User number 1000000';

let last = 1_000_000;
/** Another one each time, always seven digits long. */
export const nextValue = () => ++last;
