import type { Exchange, SolidbServer } from './solidb-server.mjs';

/** A request that waits at the server's gate to be let in. */
interface Waiting {
  readonly of: string;
  let(): void;
}

/** Marks what an operation sends, so that the scheduler can tell whose request it is. */
export function sending(as: string): typeof fetch {
  return (input, init) => fetch(input, { ...init, headers: { ...(init?.headers as object), 'x-of': as } });
}

/**
 * Lets the requests of operations that run at the same time reach the server one by one, in an order that `choose`
 * picks: it gets the number of those that wait and says which is next. An operation sends one request at a time, so
 * all wait when as many requests do as operations are under way. What is not one of the operations passes freely.
 */
async function inOrder(
  server: SolidbServer,
  operations: Readonly<Record<string, () => Promise<unknown>>>,
  choose: (waiting: number) => number,
): Promise<unknown[]> {
  const names = Object.keys(operations);
  const waiting: Waiting[] = [];
  let underWay = names.length;
  const next = (): void => {
    if (waiting.length < underWay || underWay === 0) return;
    waiting.sort((one, other) => names.indexOf(one.of) - names.indexOf(other.of));
    waiting.splice(choose(waiting.length), 1)[0].let();
  };
  server.gate = ({ headers }: Exchange) => {
    const of = headers['x-of'];
    if (of === undefined || !names.includes(of)) return undefined;
    return new Promise<void>((resolve) => {
      waiting.push({ of, let: resolve });
      next();
    });
  };
  const outcomes = await Promise.all(
    names.map((name) =>
      operations[name]().finally(() => {
        underWay--;
        next();
      }),
    ),
  );
  server.gate = undefined;
  return outcomes;
}

/**
 * Runs the operations in every order in which their requests can reach the server, each time after a new `prepare`;
 * how many orders there were. Which there are comes out on the way, since what an operation sends depends on the others.
 */
export async function inEveryOrder<T>(
  server: SolidbServer,
  prepare: () => Promise<T>,
  operations: (of: T) => Readonly<Record<string, () => Promise<unknown>>>,
  check: (of: T, outcomes: any[]) => unknown,
): Promise<number> {
  // The choices made so far in a run, and out of how many: the next run differs in the last that has one left.
  let choices: { taken: number; of: number }[] = [];
  for (let orders = 1; ; orders++) {
    const prepared = await prepare();
    let step = 0;
    const outcomes = await inOrder(server, operations(prepared), (waiting) => {
      choices[step] ??= { taken: 0, of: waiting };
      return choices[step++].taken;
    });
    try {
      await check(prepared, outcomes);
    } catch (error) {
      (error as Error).message += `\n\nin the order ${choices.map(({ taken }) => taken).join(' ')}`;
      throw error;
    }
    choices.length = step;
    choices = choices.slice(0, choices.findLastIndex(({ taken, of }) => taken + 1 < of) + 1);
    if (choices.length === 0) return orders;
    choices[choices.length - 1].taken++;
  }
}
