/** How long sessions live: milliseconds. */
export interface LifetimeRules {
  /** Without being used. */
  readonly maxAge: number;
  /** At most, however much they are used. */
  readonly absoluteMaxAge: number;
  /** True: reading extends a session. False: only writing does. */
  readonly rolling: boolean;
}

/** The instants of a session: milliseconds since the epoch. */
export interface Times {
  readonly createdAt: number;
  readonly lastAccessedAt: number;
  readonly expiresAt: number;
}

/** The times of a session that begins now. */
export function newTimes(rules: LifetimeRules, now: number): Times {
  return { createdAt: now, lastAccessedAt: now, expiresAt: expiryOf(rules, now, now) };
}

/** The end of a session that is used now: after the idle lifetime, but never past the absolute one. */
export function expiryOf(rules: LifetimeRules, createdAt: number, now: number): number {
  return Math.min(now + rules.maxAge, createdAt + rules.absoluteMaxAge);
}

/** The times in a record. A touch moves only the expiry, from which the last use can be told. */
export function timesOf(rules: LifetimeRules, { createdAt, lastAccessedAt, expiresAt }: Times): Times {
  return { createdAt, lastAccessedAt: Math.max(lastAccessedAt, expiresAt - rules.maxAge), expiresAt };
}

/** An extension must gain so much to be worth a write: a tenth of the idle lifetime, in milliseconds. */
export function throttleOf({ maxAge }: LifetimeRules): number {
  return maxAge / 10;
}

/**
 * The later expiry of a session that is used now; undefined if it is not time for one.
 *
 * @param isWritten the session is written as well
 * @param isTouched the handler has called `touch()`, which asks for an extension whatever it gains
 */
export function extendedExpiry(
  rules: LifetimeRules,
  times: Times,
  now: number,
  isWritten: boolean,
  isTouched: boolean,
): number | undefined {
  if (!rules.rolling && !isWritten && !isTouched) return undefined;
  const expiresAt = expiryOf(rules, times.createdAt, now);
  const gained = expiresAt - times.expiresAt;
  return gained > 0 && (gained >= throttleOf(rules) || isTouched) ? expiresAt : undefined;
}

/** For Max-Age: whole seconds, rounded up, so that the cookie is still there when the record expires. */
export function secondsUntil(instant: number, now: number): number {
  return Math.max(0, Math.ceil((instant - now) / 1000));
}
