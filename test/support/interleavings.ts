import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { type Session, SessionManager, type SessionStore } from 'nest-session';
import { managerOf } from './manager.js';
import { SECRET } from './app.js';

/** A request of four steps: it opens the session, changes it, acts on it, and is done. */
interface Script {
  readonly change?: (session: Session<any>) => unknown;
  readonly act?: (session: Session<any>) => unknown;
}

const scripts: Readonly<Record<string, Script>> = {
  reads: { change: (session) => session.get('cart') },
  'writes a': { change: (session) => session.set('a', 'written') },
  'writes b': { change: (session) => session.set('b', 'written') },
  'writes b and saves': {
    change: (session) => session.set('b', 'written'),
    act: (session) => session.save(),
  },
  'deletes cart': { change: (session) => session.delete('cart') },
  'changes cart inside': { change: (session) => session.get('cart').push('ink') },
  'logs in': { act: (session) => session.login('alice') },
  'sets the user': { change: (session) => session.set('userId', 'alice') },
  regenerates: { act: (session) => session.regenerate() },
  'logs out': { act: (session) => session.logout() },
  'leaves a message': { change: (session) => session.flash.set('notice', 'hello') },
};

/** Every order in which three sequences of such lengths can be run. */
function* orders(left: readonly number[], done: readonly number[] = []): Generator<readonly number[]> {
  if (left.every((steps) => steps === 0)) yield done;
  for (const [request, steps] of left.entries()) {
    if (steps > 0) {
      const rest = left.map((others, index) => (index === request ? others - 1 : others));
      yield* orders(rest, [...done, request]);
    }
  }
}

/** All 34 650 orders of three times four steps. */
export const everyOrder = (): Generator<readonly number[]> => orders([4, 4, 4]);

/**
 * One order of each kind that a store can tell apart. A change touches nothing but its own request, and so does an
 * act that a script does not have: when they happen makes no difference, so they happen with the step before.
 */
export function* distinctOrders(names: readonly string[]): Generator<readonly number[]> {
  const sizes = names.map((name) => (scripts[name].act ? [2, 1, 1] : [3, 1]));
  for (const order of orders(sizes.map(({ length }) => length))) {
    const left = sizes.map((steps) => [...steps]);
    yield order.flatMap((request) => new Array<number>(left[request].shift() as number).fill(request));
  }
}

/** One request as the adapters would run it, step by step. */
export class Running {
  readonly response: ServerResponse;
  readonly #request: IncomingMessage;
  readonly #steps: (() => unknown)[];
  #session!: Session<any>;

  constructor(manager: SessionManager, cookie: string, { change, act }: Script) {
    this.#request = new IncomingMessage(new Socket());
    this.#request.method = 'POST';
    this.#request.headers.cookie = cookie;
    this.response = new ServerResponse(this.#request);
    Object.assign(this.#request, { res: this.response });
    this.#steps = [
      async () => (this.#session = (await manager.open(this.#request)) as Session<any>),
      () => change?.(this.#session),
      () => act?.(this.#session),
      () => this.#session.save(),
    ];
  }

  async run(): Promise<void> {
    while (this.#steps.length > 0) await this.step();
  }

  step(): unknown {
    return this.#steps.shift()?.();
  }

  /** The cookie that the response sets: a value, or '' for one it deletes. */
  get cookie(): string | undefined {
    this.response.writeHead(200);
    const [line] = [this.response.getHeader('Set-Cookie') ?? []].flat();
    return line === undefined ? undefined : /^session_id=([^;]*)/.exec(String(line))?.[1];
  }
}

/** Runs one schedule of three requests with the same cookie, and gives back what there is to see afterwards. */
async function run(store: SessionStore, names: readonly string[], schedule: readonly number[]) {
  const manager = managerOf({ secret: SECRET, store });
  const first = new Running(manager, '', { change: (session) => session.set('cart', ['pen']) });
  for (let step = 0; step < 4; step++) await first.step();
  const before = first.cookie as string;

  const running = names.map((name) => new Running(manager, `session_id=${before}`, scripts[name]));
  for (const request of schedule) await running[request].step();

  const look = async (cookie: string | undefined) => {
    const request = Object.assign(new IncomingMessage(new Socket()), { method: 'GET' });
    request.headers.cookie = `session_id=${cookie}`;
    const session = (await manager.open(request)) as Session<any>;
    const seen: Record<string, unknown> = { ...session.data, notice: session.flash.peek('notice') };
    return session.isNew ? undefined : seen;
  };
  const after = running.map((request) => request.cookie);
  return {
    underOldId: await look(before),
    cookies: after,
    visible: await Promise.all(after.map((cookie) => (cookie ? look(cookie) : undefined))),
    count: store.count && (await manager.count()),
  };
}

type Outcome = Awaited<ReturnType<typeof run>>;

/** What the four promises say of each triple, whatever the order. */
export const triples: readonly [readonly [string, string, string], (outcome: Outcome) => void][] = [
  [
    ['writes a', 'writes b', 'deletes cart'],
    ({ underOldId, count }) => {
      expect(underOldId).toEqual({ a: 'written', b: 'written', notice: undefined });
      expect(count ?? 1).toBe(1);
    },
  ],
  [
    ['changes cart inside', 'writes b and saves', 'leaves a message'],
    ({ underOldId, count }) => {
      expect(underOldId).toEqual({ cart: ['pen', 'ink'], b: 'written', notice: 'hello' });
      expect(count ?? 1).toBe(1);
    },
  ],
  [
    ['writes a', 'logs out', 'writes b'],
    ({ underOldId, count, cookies, visible }) => {
      // A request that opened the session after the logout writes to one of its own, which has nothing of the old.
      expect(underOldId).toBeUndefined();
      for (const seen of visible) expect(seen?.cart).toBeUndefined();
      if (count !== undefined) expect(count).toBe(cookies.filter((cookie) => cookie).length);
    },
  ],
  [
    ['logs out', 'leaves a message', 'reads'],
    ({ underOldId, visible }) => {
      expect(underOldId).toBeUndefined();
      for (const seen of visible) expect(seen?.cart).toBeUndefined();
    },
  ],
  [
    ['writes a', 'regenerates', 'regenerates'],
    ({ underOldId, visible }) => {
      expect(underOldId).toBeUndefined();
      const heirs = visible.filter((seen) => seen?.cart);
      expect(heirs).toHaveLength(1);
    },
  ],
  [
    ['logs in', 'writes a', 'logs out'],
    ({ underOldId, visible, cookies }) => {
      // Whoever was told that he is logged in is, unless he is the one who logged out.
      expect(underOldId).toBeUndefined();
      expect(cookies[0]).toBeTruthy();
      expect(visible[0]?.userId).toBe('alice');
    },
  ],
  [
    ['sets the user', 'writes a', 'writes b'],
    ({ underOldId, visible }) => {
      expect(underOldId).toBeUndefined();
      expect(visible[0]).toMatchObject({ userId: 'alice', cart: ['pen'] });
      for (const seen of visible.slice(1)) expect(seen?.userId).toBeUndefined();
    },
  ],
];

/** Runs the triple in each of the schedules, on a new store each time; how many there were. */
export async function runAll(
  newStore: () => SessionStore | Promise<SessionStore>,
  names: readonly string[],
  check: (outcome: Outcome) => void,
  schedules: Iterable<readonly number[]>,
): Promise<number> {
  let count = 0;
  for (const schedule of schedules) {
    const store = await newStore();
    try {
      check(await run(store, names, schedule));
    } catch (error) {
      (error as Error).message += `\n\nin the schedule ${schedule.join(' ')}`;
      throw error;
    } finally {
      await store.close?.();
    }
    count++;
  }
  return count;
}
