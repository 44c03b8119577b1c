import {
  CookieStore,
  type DeadRecord,
  type SessionDelta,
  type SessionRecord,
  type SessionStore,
} from 'nest-session';
import { KeyRing } from '../../lib/crypto/key-ring.js';
import { resolveOptions } from '../../lib/options/resolved-options.js';
import { TravelInUse } from '../../lib/session/travel-in-use.js';
import { SerialQueues } from '../../lib/util/serial-queue.js';
import type { Identity } from '../../lib/stores/session-travel.js';
import { SECRET } from './app.js';

interface Kept {
  readonly identity: Identity;
  readonly header: string;
}

/**
 * A CookieStore as the browser sees it: each operation is a request that brings a cookie to a server which knows
 * nothing but the secret and the revocations, and goes home with the next one.
 */
export class CookieJar implements SessionStore {
  readonly #jar = new Map<string, Kept>();
  readonly #requests = new SerialQueues();
  /** The server that ends sessions; it alone knows which may be created once more. */
  readonly #server: { store: CookieStore; travel: TravelInUse };

  constructor(
    private readonly clock: () => number,
    private readonly revocations: SessionStore,
    private readonly chunks = 1,
  ) {
    this.#server = this.#newServer();
  }

  create(id: string, record: SessionRecord): Promise<'created' | 'exists'> {
    return this.#request(id, this.#server, async (known) => {
      const identity = known ?? this.#server.travel.newIdentity();
      const outcome = await this.#server.store.create(identity.id, record);
      if (outcome === 'created') this.#keep(id, identity, this.#server.travel);
      return outcome;
    });
  }

  load(id: string, report?: (why: DeadRecord) => void): Promise<SessionRecord | undefined> {
    const server = this.#newServer();
    return this.#request(id, server, async (known) => {
      const tell = (why: DeadRecord): void => {
        this.#jar.delete(id); // as the answer to an expired session makes the browser do
        report?.(why);
      };
      return known && server.store.load(known.id, tell);
    });
  }

  touch(id: string, expiresAt: number): Promise<'saved' | 'gone'> {
    return this.#write(id, (store, known) => store.touch(known, expiresAt));
  }

  commit(id: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    return this.#write(id, (store, known) => store.commit(known, delta));
  }

  rotate(id: string, newId: string, delta: SessionDelta): Promise<'saved' | 'gone'> {
    const { store, travel } = this.#server;
    return this.#request(id, this.#server, async (known) => {
      const next = travel.newIdentity();
      const outcome = known ? await store.rotate(known.id, next.id, delta) : 'gone';
      if (outcome === 'saved') this.#keep(newId, next, travel);
      return outcome;
    });
  }

  destroy(id: string): Promise<boolean> {
    return this.#request(id, this.#server, async (known) => {
      if (!known || !(await this.#server.store.load(known.id))) return false;
      return this.#server.store.destroy(known.id);
    });
  }

  async close(): Promise<void> {
    await this.revocations.close?.();
  }

  #write(
    id: string,
    run: (store: CookieStore, known: string) => Promise<'saved' | 'gone'>,
  ): Promise<'saved' | 'gone'> {
    const server = this.#newServer();
    return this.#request(id, server, async (known) => {
      if (!known || (await run(server.store, known.id)) === 'gone') return 'gone';
      this.#keep(id, known, server.travel);
      return 'saved';
    });
  }

  /** One browser sends one request at a time. */
  #request<T>(
    id: string,
    { travel }: { travel: TravelInUse },
    run: (known: Identity | undefined) => Promise<T>,
  ): Promise<T> {
    return this.#requests.run('browser', async () => {
      const kept = this.#jar.get(id);
      const read = kept && travel.read(kept.header, false);
      if (typeof read === 'string') throw new Error(`the cookie is ${read}`);
      return run(kept?.identity);
    });
  }

  #keep(id: string, identity: Identity, travel: TravelInUse): void {
    const fail = (): never => {
      throw new Error('the store has forgotten what it just saved');
    };
    const lines = travel.lines(identity, fail, 60, false, this.#jar.get(id)?.header);
    const cookies = [...lines.values()].filter((line) => !line.includes('Max-Age=0'));
    this.#jar.set(id, { identity, header: cookies.map((line) => line.split(';', 1)[0]).join('; ') });
  }

  #newServer(): { store: CookieStore; travel: TravelInUse } {
    const { clock, revocations, chunks } = this;
    const store = new CookieStore({ revocations, chunks });
    // The test's own instants decide when a record expires, so the application's limits are far away.
    const limits = { maxAge: '100000d', absoluteMaxAge: '100000d' };
    const travel = new TravelInUse(
      resolveOptions({ secret: SECRET, store, clock, ...limits }),
      new KeyRing([Buffer.from(SECRET)]),
    );
    travel.use(store);
    return { store, travel };
  }
}
