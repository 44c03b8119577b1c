import assert from 'node:assert/strict';

/** A browser as far as this needs one: it sends back what it was told to keep. */
class Client {
  #cookies = new Map();

  constructor(url) {
    this.url = url;
  }

  get header() {
    return [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  }

  async get(path) {
    const headers = this.#cookies.size > 0 ? { cookie: this.header } : {};
    const response = await fetch(this.url + path, { headers });
    const body = await response.text();
    assert(response.ok, `${path}: ${response.status} ${body}`);
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      this.#cookies.set(name, value);
    }
    return body;
  }
}

/** Begins as many sessions; the Cookie header and the name in each. */
export async function beginSessions(url, count) {
  const sessions = [];
  for (let index = 0; index < count; index++) {
    const client = new Client(url);
    const name = await client.get('/create');
    sessions.push({ client, name, cookie: client.header });
  }
  return sessions;
}

/** That each keeps what was written into it and nobody else's, and that a visitor has no session. */
export async function checkSessions(url, sessions) {
  assert.equal(new Set(sessions.map(({ cookie }) => cookie)).size, sessions.length, 'each has a cookie');
  const seen = new Set();
  for (const { client, name } of sessions) {
    assert.equal(await client.get('/read'), name);
    const before = await client.get('/visits');
    assert.equal(await client.get('/write'), 'saved');
    const after = await client.get('/visits');
    assert.notEqual(after, before, 'what was written is read back');
    assert(Number(after) > 1_000_000 && !seen.has(after), 'each has a value of its own');
    seen.add(after);
  }
  for (const { client, name } of sessions) {
    assert.equal(await client.get('/read'), name, 'and what was not written is still there');
    assert(seen.delete(await client.get('/visits')));
  }
  const visitor = new Client(url);
  assert.equal(await visitor.get('/read'), 'nobody');
  assert.equal(visitor.header, '', 'who only looks gets no cookie');
}
