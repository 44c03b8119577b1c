import type { Deadline } from './deadline.js';

/** Milliseconds without a login after a refused one. Each costs the server an Argon2, and 20 a minute lock it. */
const REFUSAL_TTL = 10_000;

/** The server refused the login: wrong user or password, or too many logins. */
export class LoginRefusedError extends Error {}

export interface Token {
  readonly text: string;
  /** Sequence number of the login that produced it. */
  readonly login: number;
}

/** The token that all requests share. Requests that need one at the same time log in once. */
export class TokenCache {
  readonly #login: () => Promise<string>;
  #logins = 0;
  #token: Token | undefined;
  #pending: Promise<Token> | undefined;
  #refusal: { readonly error: LoginRefusedError; readonly until: number } | undefined;

  /** @param login rejects with {@link LoginRefusedError} if it should not be tried again at once. */
  constructor(login: () => Promise<string>) {
    this.#login = login;
  }

  async get(deadline: Deadline): Promise<Token> {
    if (this.#token) return this.#token;
    this.#pending ??= this.#renew().finally(() => (this.#pending = undefined));
    return deadline.wait(this.#pending);
  }

  /**
   * Returns another token after the server has refused one: a restarted server refuses the tokens of before. Undefined
   * if a newer token was refused as well, so that many refusals at once cause one login.
   */
  async after(refused: Token, deadline: Deadline): Promise<Token | undefined> {
    this.drop(refused);
    return this.#token || this.#logins === refused.login ? this.get(deadline) : undefined;
  }

  /** Drops a refused token, so that the next request logs in. A newer token stays. */
  drop(refused: Token): void {
    if (this.#token === refused) this.#token = undefined;
  }

  async #renew(): Promise<Token> {
    if (this.#refusal && this.#refusal.until > performance.now()) throw this.#refusal.error;
    try {
      const text = await this.#login();
      return (this.#token = { text, login: ++this.#logins });
    } catch (error) {
      if (error instanceof LoginRefusedError) {
        this.#refusal = { error, until: performance.now() + REFUSAL_TTL };
      }
      throw error;
    }
  }
}
