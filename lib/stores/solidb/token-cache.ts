import type { Deadline } from './deadline.js';

/** How long a refused login stands, in milliseconds. Each one costs the server an Argon2, and 20 a minute lock it. */
const REFUSAL_TTL = 10_000;

/** The server knows neither this user nor this password, or nobody may log in now. */
export class LoginRefusedError extends Error {}

export interface Token {
  readonly text: string;
  /** The how manieth login it comes from. */
  readonly login: number;
}

/** The token of a login that all requests share: however many need one, they log in once. */
export class TokenCache {
  readonly #login: () => Promise<string>;
  #logins = 0;
  #token: Token | undefined;
  #pending: Promise<Token> | undefined;
  #refusal: { readonly error: LoginRefusedError; readonly until: number } | undefined;

  /** @param login rejects with {@link LoginRefusedError} if trying again at once would be of no use. */
  constructor(login: () => Promise<string>) {
    this.#login = login;
  }

  async get(deadline: Deadline): Promise<Token> {
    if (this.#token) return this.#token;
    this.#pending ??= this.#renew().finally(() => (this.#pending = undefined));
    return deadline.wait(this.#pending);
  }

  /**
   * Another token, after the server took this one no more: tokens die with the server that signed them. Undefined if
   * another has been got and refused as well, so that many refusals at once lead to one login.
   */
  async after(refused: Token, deadline: Deadline): Promise<Token | undefined> {
    this.drop(refused);
    return this.#token || this.#logins === refused.login ? this.get(deadline) : undefined;
  }

  /** Has the next request log in, unless another token is there already. */
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
