import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import {
  CookieStore,
  MemoryStore,
  type Session,
  SessionManager,
  type SessionRecord,
  type SessionStore,
} from 'nest-session';
import { Clock, SECRET } from '../support/app.js';
import { HeldStore } from '../support/held-store.js';
import { managerOf } from '../support/manager.js';
import { answersAsTheModel } from '../support/store-property.js';
import { BoundedStore } from '../../lib/stores/bounded-store.js';
import { MigratingStore } from '../../lib/stores/migrating.store.js';

const ID = 'a'.repeat(64);
const NEW_ID = 'b'.repeat(64);
const clock = new Clock();

const record = (fields: Record<string, string> = { cart: '["pen"]' }, seconds = 100): SessionRecord => ({
  createdAt: clock.now,
  lastAccessedAt: clock.now,
  expiresAt: clock.now + seconds * 1000,
  userId: 'alice',
  fields: new Map(Object.entries(fields)),
});
const setting = (name: string, header = {}) => ({ set: new Map([[name, '1']]), delete: [], header });
const namesIn = (found: SessionRecord | undefined): string[] | undefined =>
  found && [...found.fields.keys()].toSorted();

describe('two stores as one', () => {
  let old: HeldStore;
  let fresh: HeldStore;
  let both: MigratingStore;
  beforeEach(async () => {
    old = new HeldStore(undefined, clock.read);
    fresh = new HeldStore(undefined, clock.read);
    both = new MigratingStore(fresh, old);
    await old.create(ID, record());
  });

  const whereIs = async (id = ID): Promise<(string[] | undefined)[]> =>
    Promise.all([old.inner.load(id).then(namesIn), fresh.inner.load(id).then(namesIn)]);

  it('answer as one would, whichever of them a session is in', async () => {
    const halfOfThemOld = (now: () => number): SessionStore => {
      const [to, from] = [new MemoryStore({ clock: now }), new MemoryStore({ clock: now })];
      const store = new MigratingStore(to, from);
      let created = 0;
      const create: SessionStore['create'] = async (id, one) => {
        if ((await to.load(id)) || (await from.load(id))) return 'exists';
        return (created++ % 2 ? to : from).create(id, one);
      };
      return Object.assign(store, { create });
    };
    await expect(answersAsTheModel(halfOfThemOld, 150)).resolves.toBeUndefined();
  }, 60_000);

  it('move a session once, with its header, in as few calls as it takes', async () => {
    old.drain();
    const [loaded] = [await both.load(ID), await both.load(ID)];
    expect(loaded).toEqual(record());
    expect(await fresh.inner.load(ID)).toEqual(record());
    expect([old.drain(), fresh.drain()]).toEqual([
      ['load', 'destroy'],
      ['load', 'create', 'load'],
    ]);
  });

  it('ask the old one nothing about a session that has moved, but to end it', async () => {
    await both.load(ID);
    old.drain();
    await both.load(ID);
    await both.touch(ID, clock.now + 200_000);
    await both.commit(ID, setting('a'));
    expect(old.drain()).toEqual([]);
    await both.rotate(ID, NEW_ID, setting('b'));
    await both.destroy(NEW_ID);
    expect(old.drain()).toEqual(['destroy', 'destroy']);
  });

  it('know nothing of an id that neither has, and create nothing for it', async () => {
    await old.inner.destroy(ID);
    expect(await both.load(ID)).toBeUndefined();
    expect(await both.touch(ID, clock.now + 1000)).toBe('gone');
    expect(await both.commit(ID, setting('a'))).toBe('gone');
    expect(await both.rotate(ID, NEW_ID, setting('a'))).toBe('gone');
    expect(await both.destroy(ID)).toBe(false);
    expect([await whereIs(), await whereIs(NEW_ID)]).toEqual([
      [undefined, undefined],
      [undefined, undefined],
    ]);
  });

  it('end a session that another process moves meanwhile', async () => {
    const elsewhere = new MigratingStore(fresh, old);
    const removal = old.hold('destroy');
    const ending = both.destroy(ID);
    await removal.reached;
    await elsewhere.load(ID);
    removal.release();
    expect(await ending).toBe(true);
    expect(await whereIs()).toEqual([undefined, undefined]);
  });

  it.each(['old', 'new'])('say so when a session was there: destroy() in the %s one', async (where) => {
    if (where === 'new') await both.load(ID);
    expect(await both.destroy(ID)).toBe(true);
    expect(await whereIs()).toEqual([undefined, undefined]);
  });

  it('report once that a session of the old one has expired, and do not move it', async () => {
    clock.pass(100);
    const reports: string[] = [];
    expect(await both.load(ID, (why) => reports.push(why))).toBeUndefined();
    expect(await both.load(ID, (why) => reports.push(why))).toBeUndefined();
    expect(reports).toEqual(['expired']);
    expect(fresh.drain()).toEqual(['load', 'load']);
  });

  it('report once that a session of the new one has expired', async () => {
    await both.load(ID);
    clock.pass(100);
    const reports: string[] = [];
    expect(await both.load(ID, (why) => reports.push(why))).toBeUndefined();
    expect(reports).toEqual(['expired']);
  });

  it.each([
    ['destroy', () => both.destroy(ID)],
    ['rotate', () => both.rotate(ID, NEW_ID, setting('a'))],
  ] as const)('do not bring back what a %s ends during a move', async (_, act) => {
    const held = fresh.hold('create');
    const loading = both.load(ID);
    await held.reached;
    const ending = act();
    await new Promise(setImmediate);
    held.release();
    await Promise.all([loading, ending]);
    expect(await both.load(ID)).toBeUndefined();
    expect(await whereIs()).toEqual([undefined, undefined]);
  });

  it('report what the old one cannot decode, and do not move it', async () => {
    const reports: string[] = [];
    old.load = async (_, report) => void report?.('undecodable');
    expect(await both.load(ID, (why) => reports.push(why))).toBeUndefined();
    expect(reports).toEqual(['undecodable']);
    expect(fresh.drain()).toEqual(['load']);
  });

  it('prefer what the new one has, where a copy was left in the old', async () => {
    await both.load(ID);
    await both.commit(ID, setting('a'));
    await old.inner.create(ID, record());
    expect(namesIn(await both.load(ID))).toEqual(['a', 'cart']);
    expect(namesIn((await both.listByUser?.('alice'))?.get(ID))).toEqual(['a', 'cart']);
    await both.rotate(ID, NEW_ID, setting('b'));
    expect(await whereIs()).toEqual([undefined, undefined]);
    expect(await both.load(ID)).toBeUndefined();
  });

  it.each([
    ['old', 'load'],
    ['new', 'load'],
    ['new', 'create'],
    ['old', 'destroy'],
  ] as const)('lose nothing when in a move the %s one fails to %s', async (which, operation) => {
    (which === 'old' ? old : fresh).fail(operation);
    await expect(both.load(ID)).rejects.toThrow('connection refused');
    old.recover();
    fresh.recover();
    expect(namesIn(await both.load(ID))).toEqual(['cart']);
    expect(await both.destroy(ID)).toBe(true);
    expect(await whereIs()).toEqual([undefined, undefined]);
  });

  it.each(['touch', 'commit', 'rotate'] as const)(
    'lose nothing when %s fails in the new one, after the move',
    async (operation) => {
      fresh.fail(operation);
      const run = {
        touch: () => both.touch(ID, clock.now + 1000),
        commit: () => both.commit(ID, setting('a')),
        rotate: () => both.rotate(ID, NEW_ID, setting('a')),
      }[operation];
      await expect(run()).rejects.toThrow('connection refused');
      fresh.recover();
      expect(await run()).toBe('saved');
      expect(await both.load(operation === 'rotate' ? NEW_ID : ID)).toBeDefined();
    },
  );

  it('can be reached when both can', async () => {
    const away = Object.assign(new MemoryStore(), { ping: () => Promise.reject(new Error('away')) });
    await expect(new MigratingStore(away, new MemoryStore()).ping()).rejects.toThrow('away');
    await expect(new MigratingStore(new MemoryStore(), away).ping()).rejects.toThrow('away');
    await expect(both.ping()).resolves.toBeUndefined();
  });

  it('of three, an unmoved session is found in the first, and leaves nothing behind', async () => {
    const third = new MemoryStore({ clock: clock.read });
    const all = new MigratingStore(third, both);
    expect(namesIn(await all.load(ID))).toEqual(['cart']);
    expect([await whereIs(), namesIn(await third.load(ID))]).toEqual([[undefined, undefined], ['cart']]);
    expect(await all.destroy(ID)).toBe(true);
    expect(await all.count?.()).toBe(0);
  });

  // What was under way at the switch has happened before what comes after it, or after it, but never in between.
  const underWay = {
    load: () => present.load(ID, () => {}),
    touch: () => present.touch(ID, clock.now + 200_000),
    commit: () => present.commit(ID, setting('early')),
    rotate: () => present.rotate(ID, NEW_ID, setting('early')),
    destroy: () => present.destroy(ID),
  };
  const afterwards = {
    load: async (store: MigratingStore) => namesIn(await store.load(ID)) ?? null,
    touch: (store: MigratingStore) => store.touch(ID, clock.now + 300_000),
    commit: (store: MigratingStore) => store.commit(ID, setting('late')),
    rotate: (store: MigratingStore) => store.rotate(ID, 'c'.repeat(64), setting('late')),
    destroy: (store: MigratingStore) => store.destroy(ID),
  };
  let present: BoundedStore;
  const pairs = Object.keys(underWay).flatMap((first) =>
    Object.keys(afterwards).map((second) => [first, second] as const),
  );

  it.each(pairs)('a %s under way at the switch, and a %s after it', async (first, second) => {
    const outcomes = async (run: () => Promise<unknown[]>): Promise<string> => {
      old = new HeldStore(undefined, clock.read);
      fresh = new HeldStore(undefined, clock.read);
      present = new BoundedStore(old, 5000, () => {});
      await old.create(ID, record());
      const results = await run();
      const left = [...(await old.listByUser('alice')), ...(await fresh.listByUser('alice'))];
      return JSON.stringify([results, left.map(([id, one]) => [id, one.expiresAt, namesIn(one)])]);
    };
    const early = async (): Promise<unknown> => {
      const outcome = await underWay[first as keyof typeof underWay]();
      return first === 'load' ? (namesIn(outcome as SessionRecord | undefined) ?? null) : outcome;
    };
    const late = (store: MigratingStore): Promise<unknown> =>
      afterwards[second as keyof typeof afterwards](store);
    const inOrder = await outcomes(async () => [await early(), await late(new MigratingStore(fresh, old))]);
    const inReverse = await outcomes(async () => {
      const outcome = await late(new MigratingStore(fresh, old));
      present = new BoundedStore(new MigratingStore(fresh, old), 5000, () => {});
      return [await early(), outcome];
    });
    const overlapping = await outcomes(async () => {
      const held = old.hold(first as keyof typeof underWay);
      const begun = early();
      await held.reached;
      const outcome = late(new MigratingStore(fresh, old, present.idle()));
      await new Promise(setImmediate);
      held.release();
      return [await begun, await outcome];
    });
    expect([inOrder, inReverse]).toContain(overlapping);
  });
});

/** A request, step by step: it opens the session, does something to it and saves it, and is answered. */
class Request {
  readonly #request = new IncomingMessage(new Socket());
  readonly #response = new ServerResponse(this.#request);
  readonly #steps: (() => unknown)[];

  constructor(manager: SessionManager, cookie: string, act: (session: Session<any>) => unknown) {
    let session: Session<any>;
    this.#request.headers.cookie = cookie;
    Object.assign(this.#request, { res: this.#response });
    this.#steps = [
      async () => (session = (await manager.open(this.#request)) as Session<any>),
      async () => {
        await act(session);
        await session.save();
      },
      () => void this.#response.writeHead(200),
    ];
  }

  step(): unknown {
    return this.#steps.shift()?.();
  }

  async run(): Promise<this> {
    while (this.#steps.length > 0) await this.step();
    return this;
  }

  /** What the browser has when the response has arrived. */
  cookieAfter(before: string): string {
    const [line] = [this.#response.getHeader('Set-Cookie') ?? []].flat().map(String);
    return line?.split(';', 1)[0] ?? before;
  }
}

/** Every order in which sequences of such lengths can be run. */
function* orders(left: readonly number[], done: readonly number[] = []): Generator<readonly number[]> {
  if (left.every((steps) => steps === 0)) yield done;
  for (const [one, steps] of left.entries()) {
    if (steps === 0) continue;
    yield* orders(
      left.map((others, index) => (index === one ? others - 1 : others)),
      [...done, one],
    );
  }
}

const acts: Readonly<Record<string, (session: Session<any>) => unknown>> = {
  'writes a': (session) => session.set('a', 1),
  'writes b': (session) => session.set('b', 1),
  reads: (session) => session.get('cart'),
  'logs in': (session) => session.login('alice'),
  'logs out': (session) => session.logout(),
  regenerates: (session) => session.regenerate(),
};

interface Seen {
  readonly underOldId: unknown;
  readonly after: readonly any[];
}
const requestPairs: readonly [string, string, (seen: Seen) => void][] = [
  ['writes a', 'writes b', ({ underOldId }) => expect(underOldId).toEqual({ cart: ['pen'], a: 1, b: 1 })],
  ['reads', 'writes b', ({ after }) => expect(after[1]).toEqual({ cart: ['pen'], b: 1 })],
  ['reads', 'reads', ({ after }) => expect(after).toEqual([{ cart: ['pen'] }, { cart: ['pen'] }])],
  ['writes a', 'logs out', ({ underOldId }) => expect(underOldId).toEqual({})],
  [
    'regenerates',
    'regenerates',
    ({ underOldId, after }) => {
      expect(underOldId).toEqual({});
      expect(after.filter(({ cart }) => cart)).toHaveLength(1);
    },
  ],
  [
    'logs in',
    'writes b',
    ({ underOldId, after }) => {
      expect(underOldId).toEqual({});
      expect(after[0]).toMatchObject({ cart: ['pen'], userId: 'alice' });
    },
  ],
  [
    'logs in',
    'logs out',
    ({ underOldId, after }) => {
      expect(underOldId).toEqual({});
      expect(after[0].userId).toBe('alice');
    },
  ],
];

const memory = (): SessionStore => new MemoryStore({ clock: clock.read });
const cookies = (): SessionStore => new CookieStore({ revocations: memory() });

describe.each<[string, () => SessionStore, readonly (() => SessionStore)[]]>([
  ['from a store to another', memory, [memory]],
  ['from a store to another, and on to a third', memory, [memory, memory]],
  ['into cookies', memory, [cookies]],
  ['out of cookies', cookies, [memory]],
])('a switch %s, wherever it comes in a request', (_, before, later) => {
  it.each(requestPairs)('that %s, beside one that %s', async (first, second, check) => {
    let seen = 0;
    for (const order of orders([3, 3, later.length])) {
      const options = { secret: SECRET, clock: clock.read, store: before() };
      const manager = managerOf(options);
      const begin = await new Request(manager, '', (session) => session.set('cart', ['pen'])).run();
      const cookie = begin.cookieAfter('');
      const requests = [first, second].map((name) => new Request(manager, cookie, acts[name]));
      const switches = later.map((store) => () => manager.useStore(store(), { migrate: true }));
      for (const one of order) await (one < 2 ? requests[one].step() : switches.shift()?.());
      const look = async (carried: string): Promise<unknown> => {
        let data: unknown;
        await new Request(manager, carried, (session) => (data = { ...session.data })).run();
        return data;
      };
      const underOldId = await look(cookie);
      const after = await Promise.all(requests.map((request) => look(request.cookieAfter(cookie))));
      await manager.onApplicationShutdown();
      try {
        check({ underOldId, after });
      } catch (error) {
        (error as Error).message += `\n\nin the order ${order.join(' ')}`;
        throw error;
      }
      seen++;
    }
    expect(seen).toBe(later.length === 1 ? 140 : 560);
  });
});

// A CookieStore does; the next requests of a browser may name a session as the old store knows it.
describe('a store that adopts sessions', () => {
  class AdoptingStore extends MemoryStore {
    hasRoom = true;
    async adopt(id: string, adopted: SessionRecord): Promise<void> {
      if (this.hasRoom) await this.create(id, adopted);
    }
  }
  let old: SessionStore;
  let fresh: AdoptingStore;
  let both: MigratingStore;
  beforeEach(async () => {
    old = memory();
    fresh = new AdoptingStore({ clock: clock.read });
    both = new MigratingStore(fresh, old);
    await old.create(ID, record());
  });

  it('gets a copy when the session is used, and the old store keeps its own', async () => {
    expect(namesIn(await both.load(ID))).toEqual(['cart']);
    expect(namesIn(await fresh.load(ID))).toEqual(['cart']);
    expect(namesIn(await old.load(ID))).toEqual(['cart']);
  });

  it('gets what is written from then on', async () => {
    expect(await both.commit(ID, setting('a'))).toBe('saved');
    expect(namesIn(await both.load(ID))).toEqual(['a', 'cart']);
    expect(namesIn(await old.load(ID))).toEqual(['cart']);
  });

  it('has the session alone once it has a new id', async () => {
    expect(await both.rotate(ID, NEW_ID, setting('a'))).toBe('saved');
    expect(namesIn(await fresh.load(NEW_ID))).toEqual(['a', 'cart']);
    expect([await both.load(ID), await old.load(ID), await old.load(NEW_ID)]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('has the session no more once it has ended, nor has the old one', async () => {
    await both.load(ID);
    expect(await both.destroy(ID)).toBe(true);
    expect([await fresh.load(ID), await old.load(ID)]).toEqual([undefined, undefined]);
  });

  it.each([
    ['commit', () => both.commit(ID, setting('a')), ID],
    ['rotate', () => both.rotate(ID, NEW_ID, setting('a')), NEW_ID],
  ])('may have no room for it: a %s reaches it where it is', async (_, write, id) => {
    fresh.hasRoom = false;
    expect(await write()).toBe('saved');
    expect(namesIn(await both.load(id))).toEqual(['a', 'cart']);
    expect(namesIn(await old.load(id))).toEqual(['a', 'cart']);
    expect(await fresh.count()).toBe(0);
  });
});

describe('found in review:', () => {
  let old: HeldStore;
  let fresh: HeldStore;
  let both: MigratingStore;
  beforeEach(async () => {
    old = new HeldStore(undefined, clock.read);
    fresh = new HeldStore(undefined, clock.read);
    both = new MigratingStore(fresh, old);
    await old.create(ID, record());
  });

  // Several processes share the two stores, and each has switched: README says so.
  describe('another process, over the same two stores,', () => {
    let elsewhere: MigratingStore;
    beforeEach(() => {
      elsewhere = new MigratingStore(fresh, old);
    });

    it.each([
      ['ends', () => elsewhere.destroy(ID)],
      ['moves and rotates', () => elsewhere.rotate(ID, NEW_ID, setting('a'))],
    ])('%s a session that is being moved here: it stays gone', async (_, act) => {
      const held = fresh.hold('create');
      const loading = both.load(ID);
      await held.reached;
      await act();
      held.release();
      await loading;
      expect(await both.load(ID)).toBeUndefined();
    });

    it('moves and changes a session that is being moved here: what is handed out has the change', async () => {
      const held = fresh.hold('create');
      const loading = both.load(ID);
      await held.reached;
      await elsewhere.commit(ID, setting('a'));
      held.release();
      expect(namesIn(await loading)).toEqual(['a', 'cart']);
    });
  });

  it('clear() ends a session that is being moved', async () => {
    const held = fresh.hold('create');
    const loading = both.load(ID);
    await held.reached;
    await both.clear?.();
    held.release();
    await loading;
    expect(await both.count?.()).toBe(0);
  });

  it('a copy that could not be removed from the old store is listed for nobody who has left', async () => {
    old.fail('destroy');
    await expect(both.load(ID)).rejects.toThrow('connection refused');
    old.recover();
    expect(namesIn(await both.load(ID))).toEqual(['cart']);
    await both.commit(ID, setting('a', { userId: null }));
    expect((await both.listByUser?.('alice'))?.size).toBe(0);
  });
});
