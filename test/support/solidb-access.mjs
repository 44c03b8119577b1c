import { randomBytes } from 'node:crypto';

const MINUTE = 60_000;

/** Who may ask, and how often: logins, tokens, API keys and the limits on them. */
export class SolidbAccess {
  #profile;
  #users;
  #apiKeys;
  #perMinute;
  #tokens = new Set();
  #logins = [];
  #requests = [];

  constructor(profile, { users = {}, apiKeys = [], requestsPerMinute = profile.requestsPerMinute } = {}) {
    this.#profile = profile;
    this.#users = new Map(Object.entries(users));
    this.#apiKeys = new Set(apiKeys);
    this.#perMinute = requestsPerMinute;
  }

  /** As a restart does to a server without JWT_SECRET. */
  forgetTokens() {
    this.#tokens.clear();
  }

  /** Whether the headers say who is asking. Without users and keys everybody may. */
  admits({ 'x-api-key': key, authorization = '' }) {
    if (this.#users.size + this.#apiKeys.size === 0) return true;
    const [, scheme, value] = /^(Bearer|ApiKey) (.+)$/.exec(authorization) ?? [];
    if (scheme === 'Bearer') return this.#tokens.has(value);
    return this.#apiKeys.has(scheme === 'ApiKey' ? value : key);
  }

  /** Seconds until another request is welcome, or 0 and this one is counted. */
  wait() {
    if (this.#perMinute === 0) return 0;
    this.#requests = this.#requests.filter((at) => at > Date.now() - MINUTE);
    if (this.#requests.length >= this.#perMinute) {
      return Math.ceil((this.#requests[0] + MINUTE - Date.now()) / 1000);
    }
    this.#requests.push(Date.now());
    return 0;
  }

  /** The answer to a login: a status, and a token, an error or a number of seconds to wait. */
  login({ username, password }) {
    this.#logins = this.#logins.filter((at) => at > Date.now() - MINUTE);
    const ofAll = this.#profile.countsLogins === 'attempts';
    if (this.#logins.length >= 20) {
      if (ofAll) return { status: 400, error: 'Too many login attempts. Please try again later.' };
      return { status: 429, seconds: 60 };
    }
    const known = password !== undefined && this.#users.get(username) === password;
    if (ofAll || !known) this.#logins.push(Date.now());
    if (!known) return { status: 400, error: 'Invalid credentials' };
    const token = `${randomBytes(24).toString('base64url')}.${randomBytes(24).toString('base64url')}`;
    this.#tokens.add(token);
    return { status: 200, token };
  }
}
