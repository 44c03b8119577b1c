import { createServer } from 'node:http';
import { once } from 'node:events';
import { SolidbAccess } from './solidb-access.mjs';
import { profiles } from './solidb-profiles.mjs';
import { DatabaseError, SolidbStorage } from './solidb-storage.mjs';

const MOST_BODY_BYTES = 10 * 1024 * 1024;

const json = (status, body, headers = {}) => ({
  status,
  headers: { 'content-type': 'application/json', ...headers },
  body: JSON.stringify(body),
});

/**
 * A SoliDB server as far as session stores use it, over real HTTP, in the manner of one version: see the profiles for
 * what that is, and the reference for what it follows. What it cannot do it refuses, so that no test passes by mistake.
 */
export class SolidbServer {
  /** What came in, in order. @type {import('./solidb-server.mjs').Exchange[]} */
  requests = [];
  /** Sockets that clients have opened. */
  connections = 0;
  /** Called before a request is worked on, and half-way where an update is not atomic; it waits for the promise. @type {((request: object) => unknown) | undefined} */
  gate;
  #profile;
  #server;
  #faults = [];
  #port = 0;

  constructor(profile = 'v2.1', options = {}) {
    this.#profile = profiles[profile];
    this.storage = new SolidbStorage(this.#profile);
    this.access = new SolidbAccess(this.#profile, options);
  }

  get url() {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Listens, on the port it had before if it is started again. */
  async start(port = this.#port) {
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.on('connection', () => this.connections++);
    this.#server.listen(port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = this.#server.address().port;
    return this;
  }

  async stop() {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  /** What came in since the last time. */
  drain() {
    return this.requests.splice(0);
  }

  /** Does this to the next requests instead of answering them: as many as `times`, of those that `when` picks. */
  fail(fault, { times = Infinity, when = () => true } = {}) {
    this.#faults.push({ fault, times, when });
  }

  recover() {
    this.#faults = [];
  }

  async #serve(incoming, response) {
    const request = {
      method: incoming.method,
      path: incoming.url,
      headers: incoming.headers,
      body: '',
      bytesOut: 0,
    };
    this.requests.push(request);
    try {
      for await (const chunk of incoming.setEncoding('utf8')) request.body += chunk;
      await this.gate?.(request);
      const answer = () => this.#answer(request);
      const failing = this.#faults.find(({ times, when }) => times > 0 && when(request));
      if (failing) {
        failing.times--;
        await failing.fault({ request, response, answer });
        return;
      }
      const { status, headers, body } = await answer();
      request.status = status;
      request.bytesOut = Buffer.byteLength(body ?? '');
      response.writeHead(status, headers).end(body);
    } catch (error) {
      response.destroy(error);
    }
  }

  async #answer(request) {
    try {
      return await this.#route(request);
    } catch (error) {
      if (!(error instanceof DatabaseError)) throw error;
      const { status, type, message } = error;
      return json(status, { error: message, code: status, type });
    }
  }

  async #route(request) {
    const { method, path, headers, body: text } = request;
    const { pathname, searchParams } = new URL(path, this.url);
    const [area, ...names] = pathname.slice(1).split('/').map(decodeURIComponent);
    const route = `${method} ${area}/${names[0]}`;
    if (route === 'GET _api/health') return json(200, { status: 'ok' });
    const seconds = this.access.wait();
    if (seconds > 0) return tooMany(seconds);
    if (Buffer.byteLength(text) > MOST_BODY_BYTES) {
      return { status: 413, headers: { 'content-type': 'text/plain' }, body: 'length limit exceeded' };
    }
    const body = text === '' ? undefined : parse(text);
    if (route === 'POST auth/login') return loginAnswer(this.access.login(body));
    if (!this.access.admits(headers)) return { status: 401, headers: {} };
    if (route === 'POST _api/database' && names.length === 1) {
      this.storage.createDatabase(body.name);
      return json(200, { name: body.name, status: 'created' });
    }
    if (route === 'PUT _api/cursor') return json(200, this.storage.nextBatch(names[1]));
    if (area !== '_api' || names[0] !== 'database') return notHere();
    const [, database, kind, ...rest] = names;
    return this.#inDatabase(database, `${method} ${kind}/${rest.length}`, rest, {
      body,
      searchParams,
      request,
    });
  }

  async #inDatabase(database, route, [name, key], { body, searchParams, request }) {
    const { storage } = this;
    const collection = () => storage.collection(database, name);
    switch (route) {
      case 'POST collection/0':
        storage.createCollection(database, body.name);
        return json(200, { name: body.name, status: 'created' });
      case 'PUT collection/2':
        if (key !== 'truncate') return notHere();
        storage.truncate(collection());
        return json(200, { status: 'truncated' });
      case 'POST document/1':
        return json(200, storage.insert(database, name, body));
      case 'GET document/2':
        return json(200, storage.get(collection(), key));
      case 'PUT document/2': {
        const replace = this.#profile.replaces && searchParams.get('replace') === 'true';
        const upsert = searchParams.get('upsert') === 'true';
        const halfWay = () => this.gate?.({ ...request, halfWay: true });
        const conditions = { revision: request.headers['if-match'], replace, upsert, halfWay };
        const document = await storage.update(collection(), key, body, conditions);
        return json(200, document, replace ? { 'x-replace-applied': 'true' } : {});
      }
      case 'DELETE document/2':
        storage.delete(collection(), key);
        return { status: 204, headers: {} };
      case 'POST index/1':
        storage.createIndex(collection(), body);
        return json(200, { ...body, status: 'created' });
      case 'POST ttl/1':
        storage.createExpiry(collection(), body);
        return json(200, { ...body, type: 'ttl', status: 'created' });
      case 'POST cursor/0':
        return json(200, await storage.query(database, body));
      default:
        return notHere();
    }
  }
}

/** As strict as the original's parser: half a surrogate pair is no text. */
function parse(text) {
  let body;
  try {
    body = JSON.parse(text, (name, value) => {
      if (!name.isWellFormed() || (typeof value === 'string' && !value.isWellFormed()))
        throw new Error('lone surrogate');
      return value;
    });
  } catch (error) {
    throw new DatabaseError(400, 'BadRequest', error.message);
  }
  if (typeof body !== 'object' || body === null)
    throw new DatabaseError(400, 'InvalidDocument', 'not an object');
  return body;
}

function loginAnswer({ status, token, error, seconds }) {
  if (seconds) return tooMany(seconds);
  return json(status, token ? { token } : { error, code: status, type: 'BadRequest' });
}

const tooMany = (seconds) => ({
  status: 429,
  headers: { 'content-type': 'text/plain; charset=utf-8', 'retry-after': String(seconds) },
  body: 'Too Many Requests',
});

/** What the web framework says of a path that no route has. */
const notHere = () => ({ status: 404, headers: {} });
