import { setTimeout as pause } from 'node:timers/promises';
import { readJson } from './json-answer.js';
import { LoginRefusedError, TokenCache, type Token } from './token-cache.js';
import type { ResolvedSolidbOptions, SolidbCredentials } from './solidb-options.js';
import { Deadline } from './deadline.js';

/** The answer of the server: the body of a success, or the name of an error. */
export interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
  /** The `type` in an error's body, such as `DocumentNotFound`. */
  readonly error?: string;
}

export interface Request {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** The path below the server's address. */
  readonly path: string;
  readonly body?: object;
  /** The revision that the document must have, for a PUT. */
  readonly revision?: string;
}

/** The longest accepted `Retry-After`, in milliseconds: the window of the server's rate limit. */
const LONGEST_PAUSE = 60_000;

/**
 * Sends requests to a SoliDB server over HTTP. Resolves only with an answer of the server itself. Rejects without a
 * connection or an answer in time, and for a redirect, the page of a proxy, a failure of the server, or refused
 * credentials.
 */
export class SolidbClient {
  readonly #url: string;
  readonly #fetch: typeof fetch;
  readonly #credentials: SolidbCredentials;
  readonly #token: TokenCache | undefined;
  #pausedUntil = 0;

  constructor({ url, fetch, credentials, timeout }: ResolvedSolidbOptions) {
    this.#url = url;
    this.#fetch = fetch;
    this.#credentials = credentials;
    if (credentials && 'username' in credentials) {
      this.#token = new TokenCache(() => this.#login(credentials, new Deadline(timeout)));
    }
  }

  async request(request: Request, deadline: Deadline): Promise<Answer> {
    try {
      return await this.#authorized(request, deadline);
    } catch (error) {
      throw this.#unavailable(error, deadline);
    }
  }

  async #authorized(request: Request, deadline: Deadline): Promise<Answer> {
    const token = await this.#token?.get(deadline);
    let answer = await this.#exchange(request, this.#authorization(token), deadline);
    if (answer.status === 401 && token) {
      const other = await this.#token?.after(token, deadline);
      if (other) answer = await this.#exchange(request, this.#authorization(other), deadline);
      if (other && answer.status === 401) this.#token?.drop(other);
    }
    if (answer.status === 401) {
      throw new Error('it refused the credentials (401). Check apiKey, or username and password');
    }
    if (answer.status === 403) {
      throw new Error(
        'it refused the request with these credentials (403). Give them a role for the database',
      );
    }
    return answer;
  }

  #authorization(token: Token | undefined): Record<string, string> {
    if (token) return { Authorization: `Bearer ${token.text}` };
    return this.#credentials && 'apiKey' in this.#credentials
      ? { 'X-API-Key': this.#credentials.apiKey }
      : {};
  }

  async #login(body: object, deadline: Deadline): Promise<string> {
    const { status, body: given } = await this.#exchange(
      { method: 'POST', path: '/auth/login', body },
      {},
      deadline,
    );
    if (status !== 200)
      throw new LoginRefusedError(`it refused the login (${status}). Check username and password`);
    if (typeof given.token !== 'string' || !/^[\x21-\x7e]+$/.test(given.token)) {
      throw new Error('it answered a login without a token');
    }
    return given.token;
  }

  /** Sends a request. After a 429 it waits and sends it again, as long as the deadline allows. */
  async #exchange(request: Request, headers: Record<string, string>, deadline: Deadline): Promise<Answer> {
    const { method, path, body, revision } = request;
    for (;;) {
      await this.#waitForRateLimit(deadline);
      const response = await this.#fetch(this.#url + path, {
        method,
        headers: {
          Accept: 'application/json',
          ...headers,
          ...(body && { 'Content-Type': 'application/json' }),
          ...(revision !== undefined && { 'If-Match': revision }),
        },
        body: body && JSON.stringify(body),
        // A redirect would send the credentials and the sessions to another address.
        redirect: 'manual',
        signal: deadline.signal,
      });
      if (response.status !== 429) return answerOf(response);
      await response.body?.cancel();
      const seconds = Number(response.headers.get('retry-after') ?? 1);
      this.#pausedUntil = performance.now() + Math.min(seconds * 1000 || 1000, LONGEST_PAUSE);
    }
  }

  /** Waits for the end of a rate limit. It applies to all requests, and the server counts refused ones too. */
  async #waitForRateLimit(deadline: Deadline): Promise<void> {
    for (let wait = this.#pauseLeft; wait > 0; wait = this.#pauseLeft) {
      if (wait > deadline.left) {
        throw new Error(
          `it gets too many requests (429) and takes none for ${Math.ceil(wait / 1000)} s. ` +
            'Raise SOLIDB_API_RATE_LIMIT on the server',
        );
      }
      await pause(wait, undefined, { signal: deadline.signal });
    }
  }

  get #pauseLeft(): number {
    return this.#pausedUntil - performance.now();
  }

  #unavailable(error: unknown, { signal, milliseconds }: Deadline): Error {
    const { message, cause } = error as Error & { cause?: Error & { code?: string } };
    // The error of fetch only says that it failed; its cause has the reason.
    const reason = signal.aborted
      ? `no answer within ${milliseconds} ms`
      : cause?.message || cause?.code || message;
    return new Error(`SoliDB at ${new URL(this.#url).origin}: ${reason}.`, { cause: error });
  }
}

async function answerOf(response: Response): Promise<Answer> {
  const { status } = response;
  if (status === 204) return { status, body: {} };
  // A refused token or key has no JSON body; a failed login has.
  if (status === 401) {
    await response.body?.cancel();
    return { status, body: {} };
  }
  if (response.type === 'opaqueredirect' || (status >= 300 && status < 400)) {
    await response.body?.cancel();
    throw new Error(
      `it answered with a redirect (${status}), which is not followed. Give its own address as url`,
    );
  }
  const body = await readJson(response);
  if (typeof body !== 'object' || body === null) throw new Error(`it answered ${status} without an object`);
  const { type } = body as { type?: unknown };
  const error = status >= 400 && typeof type === 'string' ? type : undefined;
  if (status >= 500) throw new Error(`it failed with ${status} ${error ?? ''}`);
  return { status, body: body as Record<string, unknown>, error };
}
