import { randomUUID } from 'node:crypto';
import type { Answer, Request, SolidbClient } from './solidb-client.js';
import type { ResolvedSolidbOptions } from './solidb-options.js';
import type { Deadline } from './deadline.js';

/** A document that was read. */
export interface Found {
  readonly revision: string;
  readonly body: Record<string, unknown>;
}

/** A document that was written, with its new revision. */
export interface Written {
  readonly revision: string;
}

/** A collection of a SoliDB database: its documents by key, and queries over all of them. */
export class SolidbCollection {
  readonly #database: string;
  readonly #name: string;

  constructor(
    private readonly client: SolidbClient,
    { database, collection }: Pick<ResolvedSolidbOptions, 'database' | 'collection'>,
  ) {
    this.#database = `/_api/database/${database}`;
    this.#name = collection;
  }

  async get(key: string, deadline: Deadline): Promise<Found | undefined> {
    const answer = await this.#ask({ method: 'GET', path: this.#documents(key) }, deadline);
    return isMissing(answer) ? undefined : { ...written(answer, key), body: answer.body };
  }

  /** Inserts a document. A server without create-if-absent overwrites one that has the key. */
  async insert(
    key: string,
    document: object,
    deadline: Deadline,
  ): Promise<Written | 'taken' | 'no collection'> {
    const body = { _key: key, ...document };
    const answer = await this.#ask({ method: 'POST', path: this.#documents(), body }, deadline, 409);
    if (answer.status === 409) return 'taken';
    return isMissing(answer) ? 'no collection' : written(answer, key);
  }

  /** Writes top-level fields of a document, which must exist and have this revision. */
  async update(
    key: string,
    revision: string,
    fields: object,
    deadline: Deadline,
  ): Promise<Written | 'changed' | 'missing'> {
    const request: Request = { method: 'PUT', path: this.#documents(key), body: fields, revision };
    const answer = await this.#ask(request, deadline, 409);
    if (answer.status === 409) return 'changed';
    return isMissing(answer) ? 'missing' : written(answer, key);
  }

  async delete(key: string, deadline: Deadline): Promise<void> {
    await this.#ask({ method: 'DELETE', path: this.#documents(key) }, deadline);
  }

  /** Removes all documents. */
  async truncate(deadline: Deadline): Promise<void> {
    await this.#ask({ method: 'PUT', path: `${this.#database}/collection/${this.#name}/truncate` }, deadline);
  }

  /** Counts the documents that match the filter. */
  async count(filter: string, bindVars: object, deadline: Deadline): Promise<number> {
    const [total = 0] = await this.#query(
      filter,
      'COLLECT WITH COUNT INTO total RETURN total',
      bindVars,
      deadline,
    );
    return numberOf(total);
  }

  /** Returns the keys of the documents that match the filter. */
  async keys(filter: string, bindVars: object, deadline: Deadline): Promise<string[]> {
    const keys = await this.#query(filter, 'RETURN d._key', bindVars, deadline);
    return keys.map(String);
  }

  /**
   * Removes the documents that match the filter and returns their number. Returns undefined if the server stopped
   * half-way, as SoliDB 0.10 does when one of them is removed meanwhile.
   */
  async removeWhere(filter: string, bindVars: object, deadline: Deadline): Promise<number | undefined> {
    const answer = await this.#cursor(`FILTER ${filter} REMOVE d IN ${this.#name}`, bindVars, deadline);
    if (answer.error === 'DocumentNotFound') return undefined;
    return isMissing(answer) ? 0 : numberOf(answer.body.deleted);
  }

  /** Creates the database and the collection, if missing, and an index by user. */
  async make(deadline: Deadline): Promise<void> {
    const body = { name: this.#name };
    const collection: Request = { method: 'POST', path: `${this.#database}/collection`, body };
    if (isMissing(await this.#ask(collection, deadline, 409))) {
      const name = this.#database.slice(this.#database.lastIndexOf('/') + 1);
      await this.#ask({ method: 'POST', path: '/_api/database', body: { name } }, deadline, 409);
      await this.#ask(collection, deadline, 409);
    }
    // Listing also works without it. expires_at gets no index: older servers end an index range after 1000 documents.
    const index = { name: 'session_user', fields: ['user_id'], type: 'persistent', unique: false };
    await this.#ask(
      { method: 'POST', path: `${this.#database}/index/${this.#name}`, body: index },
      deadline,
      400,
      409,
    );
  }

  /** Creates a TTL index: the server deletes documents `seconds` after the instant in `field`, which is in seconds. */
  async expireBy(field: string, seconds: number, deadline: Deadline): Promise<void> {
    const body = { name: 'session_expiry', field, expire_after_seconds: seconds };
    // 400: the index exists already.
    await this.#ask({ method: 'POST', path: `${this.#database}/ttl/${this.#name}`, body }, deadline, 400);
  }

  /**
   * Returns the result of a query for each document `d` that matches the filter. SoliDB 0.10 caches results for a
   * minute and ignores `cache: false`, so each query has a value of its own.
   */
  async #query(filter: string, result: string, bindVars: object, deadline: Deadline): Promise<unknown[]> {
    const nonce = { ...bindVars, nonce: randomUUID() };
    const answer = await this.#cursor(`FILTER ${filter} AND d._key != @nonce ${result}`, nonce, deadline);
    if (isMissing(answer)) return [];
    const rows = [...rowsOf(answer)];
    for (let { has_more, id } = answer.body; has_more === true;) {
      const next = await this.#ask(
        { method: 'PUT', path: `/_api/cursor/${encodeURIComponent(String(id))}` },
        deadline,
      );
      if (isMissing(next)) throw new Error('SoliDB dropped a query before all of its results were read.');
      rows.push(...rowsOf(next));
      ({ has_more } = next.body);
    }
    return rows;
  }

  #cursor(clauses: string, bindVars: object, deadline: Deadline): Promise<Answer> {
    const body = { query: `FOR d IN ${this.#name} ${clauses}`, bindVars, cache: false };
    return this.#ask({ method: 'POST', path: `${this.#database}/cursor`, body }, deadline);
  }

  /** Sends a request. Rejects unless it succeeds, its object is missing, or an error has an `expected` status. */
  async #ask(request: Request, deadline: Deadline, ...expected: number[]): Promise<Answer> {
    const answer = await this.client.request(request, deadline);
    const { status, error } = answer;
    if (status < 300 || isMissing(answer) || (error && expected.includes(status))) return answer;
    throw new Error(`SoliDB answered ${request.method} ${request.path} with ${status} ${error ?? ''}.`);
  }

  #documents(key?: string): string {
    const documents = `${this.#database}/document/${this.#name}`;
    if (key === undefined) return documents;
    // Another key could lead to another path, such as that of a batch.
    if (!/^[0-9A-Za-z][\w-]*$/.test(key)) throw new TypeError(`${JSON.stringify(key)} is not a session id.`);
    return `${documents}/${key}`;
  }
}

/** True for a 404 of the server itself. One of a proxy must not end sessions. */
function isMissing({ status, error }: Answer): boolean {
  return status === 404 && /NotFound$/.test(error ?? '');
}

function written({ body }: Answer, key: string): Written {
  if (body._key !== key || typeof body._rev !== 'string') {
    throw new Error(`SoliDB answered with something else than document ${key}.`);
  }
  return { revision: body._rev };
}

function rowsOf({ body }: Answer): unknown[] {
  if (!Array.isArray(body.result)) throw new Error('SoliDB answered a query without a result.');
  return body.result;
}

function numberOf(value: unknown): number {
  if (typeof value !== 'number') throw new Error('SoliDB answered a query without a number.');
  return value;
}
