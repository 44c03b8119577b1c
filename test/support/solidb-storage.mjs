import { randomUUID } from 'node:crypto';
import { setImmediate as others } from 'node:timers/promises';
import { parseQuery, QueryError } from './solidb-query.mjs';

/** An error as the server answers it. */
export class DatabaseError extends Error {
  constructor(status, type, message) {
    super(message);
    this.status = status;
    this.type = type;
  }
}

const CACHE_LASTS = 60_000;

/** Databases, collections and documents, as a version of SoliDB keeps them. */
export class SolidbStorage {
  #profile;
  #databases = new Map([['_system', new Map()]]);
  #queryResults = new Map();
  #cursors = new Map();

  /** @param {import('./solidb-profiles.mjs').Profile} profile */
  constructor(profile) {
    this.#profile = profile;
  }

  createDatabase(name) {
    if (this.#databases.has(name)) throw new DatabaseError(409, 'CollectionAlreadyExists', name);
    this.#databases.set(name, new Map());
  }

  createCollection(database, name) {
    const collections = this.#database(database);
    if (collections.has(name)) throw new DatabaseError(409, 'CollectionAlreadyExists', name);
    collections.set(name, { name, documents: new Map(), indexes: new Map(), expiry: undefined });
  }

  dropCollection(database, name) {
    this.#database(database).delete(name);
  }

  /** The documents of a collection by key, for a test to look into. */
  documents(database, name) {
    return this.collection(database, name).documents;
  }

  collection(database, name) {
    const collection = this.#database(database).get(name);
    if (!collection) throw new DatabaseError(404, 'CollectionNotFound', name);
    return collection;
  }

  get({ documents }, key) {
    const document = documents.get(key);
    if (!document) throw new DatabaseError(404, 'DocumentNotFound', key);
    return document;
  }

  insert(database, name, body) {
    if (this.#profile.createsCollections && !this.#database(database).has(name)) {
      this.createCollection(database, name);
    }
    const collection = this.collection(database, name);
    const { _key: key = randomUUID(), ...fields } = body;
    if (typeof key !== 'string') throw new DatabaseError(400, 'InvalidDocument', '_key must be a string');
    if (this.#profile.createsOnly && collection.documents.has(key)) {
      throw new DatabaseError(409, 'ConflictError', `Document '${key}' already exists`);
    }
    const now = new Date().toISOString();
    const document = { _key: key, _id: `${name}/${key}`, _created_at: now };
    return this.#put(collection, key, document, fields, now);
  }

  /** Merges top-level fields, those that start with an underscore aside. */
  async update(collection, key, fields, { revision, replace, upsert, halfWay }) {
    if (upsert && !collection.documents.has(key)) {
      return this.#put(collection, key, { _key: key, _id: `${collection.name}/${key}` }, fields);
    }
    const before = this.get(collection, key);
    if (this.#profile.comparesRevisions && revision !== undefined && revision !== before._rev) {
      throw new DatabaseError(
        409,
        'ConflictError',
        `Document '${key}' has been modified. Expected revision '${revision}', but current is '${before._rev}'`,
      );
    }
    // Read, and let others write: what comes is written over theirs, and over a deletion.
    if (!this.#profile.locksUpdates) await (halfWay?.() ?? others());
    const kept = replace
      ? Object.entries(before).filter(([field]) => field.startsWith('_'))
      : Object.entries(before);
    return this.#put(collection, key, Object.fromEntries(kept), fields);
  }

  delete(collection, key) {
    this.get(collection, key);
    collection.documents.delete(key);
  }

  truncate({ documents }) {
    documents.clear();
  }

  createIndex({ indexes }, { name, fields }) {
    if (indexes.has(name)) throw new DatabaseError(400, 'InvalidDocument', `Index '${name}' already exists`);
    indexes.set(name, fields);
  }

  createExpiry(collection, { name, field, expire_after_seconds: seconds }) {
    if (collection.expiry)
      throw new DatabaseError(400, 'InvalidDocument', `TTL Index '${name}' already exists`);
    collection.expiry = { name, field, seconds, covered: new Set() };
  }

  /** What the server does every minute: deletes what was written since the TTL index is there, and is over. */
  expire(database, name, now = Date.now()) {
    const { documents, expiry } = this.collection(database, name);
    for (const key of expiry?.covered ?? []) {
      const value = documents.get(key)?.[expiry.field];
      if (Number.isInteger(value) && value >= 0 && (value + expiry.seconds) * 1000 <= now)
        documents.delete(key);
    }
  }

  async query(
    database,
    { query, bindVars = {}, bind_vars: variables = bindVars, batchSize = 1000, cache = true },
  ) {
    const parsed = this.#parse(query, variables);
    const collection = this.collection(database, parsed.collection);
    if (parsed.removes) return this.#remove(collection, parsed);
    // Without the database's name, as in the original.
    const key = JSON.stringify([query, variables]);
    const known = this.#queryResults.get(key);
    const mayKeep = cache || !this.#profile.mindsCacheFlag;
    if (mayKeep && known && known.until > Date.now())
      return { ...this.#batch(known.rows, batchSize), cached: true };
    const rows = parsed.result([...collection.documents.values()].filter(parsed.matches));
    if (mayKeep) this.#queryResults.set(key, { rows, until: Date.now() + CACHE_LASTS });
    return this.#batch(rows, batchSize);
  }

  nextBatch(id) {
    const cursor = this.#cursors.get(id);
    if (!cursor) throw new DatabaseError(404, 'DocumentNotFound', `Cursor not found or expired: ${id}`);
    const result = cursor.rows.splice(0, cursor.batchSize);
    const more = cursor.rows.length > 0;
    if (!more) this.#cursors.delete(id);
    return {
      result,
      count: result.length,
      has_more: more,
      ...(more && { id }),
      cached: true,
      executionTimeMs: 0,
    };
  }

  #parse(query, variables) {
    try {
      return parseQuery(query, variables);
    } catch (error) {
      if (error instanceof QueryError) throw new DatabaseError(400, 'ParseError', error.message);
      throw error;
    }
  }

  async #remove(collection, { matches }) {
    const found = [...collection.documents.values()].filter(matches);
    // Row by row: what changes meanwhile is deleted all the same.
    await others();
    let deleted = 0;
    for (const { _key: key } of found) {
      if (collection.documents.delete(key)) deleted++;
      else if (this.#profile.removalBreaksOff) throw new DatabaseError(404, 'DocumentNotFound', key);
    }
    return { ...this.#batch([], 1), deleted };
  }

  #batch(rows, batchSize) {
    const result = rows.slice(0, batchSize);
    const rest = rows.slice(batchSize);
    const id = rest.length > 0 ? randomUUID() : undefined;
    if (id) this.#cursors.set(id, { rows: rest, batchSize });
    const counts = { inserted: 0, updated: 0, deleted: 0 };
    return { result, count: rows.length, has_more: !!id, id, cached: false, executionTimeMs: 0.1, ...counts };
  }

  #put(collection, key, before, fields, now = new Date().toISOString()) {
    const written = Object.fromEntries(Object.entries(fields).filter(([field]) => !field.startsWith('_')));
    const document = { ...before, ...written, _rev: randomUUID(), _updated_at: now };
    collection.documents.set(key, document);
    collection.expiry?.covered.add(key);
    return document;
  }

  #database(name) {
    const database = this.#databases.get(name);
    if (!database) throw new DatabaseError(404, 'CollectionNotFound', `Database '${name}' not found`);
    return database;
  }
}
