import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Client } from './settings.js';

/** Who does something to the store: the commands wait until they may go. Those sent at the same time go together. */
class Party {
  readonly #waiting: (() => Promise<void>)[] = [];
  isDone = true;
  /** The last command asked for a lock that another has. */
  isLockedOut = false;

  constructor(client: Client) {
    delete (client as Partial<Client>).call; // what held the commands of another test
    const call = client.call.bind(client);
    client.call = (command, args) => {
      if (this.isDone) return call(command, args);
      return new Promise((resolve, reject) => {
        this.#waiting.push(async () => {
          const reply = call(command, args);
          reply.then(resolve, reject);
          const answer = await reply.catch(() => undefined);
          if (/^set$/i.test(command)) this.isLockedOut = answer === null;
        });
      });
    };
  }

  async run(operation: () => Promise<unknown>): Promise<unknown> {
    this.isDone = false;
    try {
      return await operation();
    } finally {
      this.isDone = true;
      void this.step(); // what nobody waits for
    }
  }

  async step(): Promise<void> {
    await Promise.all(this.#waiting.splice(0).map((send) => send()));
  }

  /** Settles when the next commands wait, or there is nothing more to do. */
  async settled(): Promise<void> {
    do await nextTurn();
    while (!this.isDone && this.#waiting.length === 0);
  }
}

/** What may be done next at each step of a run, and which of it was. */
interface Choice {
  taken: number;
  readonly of: number;
}

/**
 * Runs operations, one on each client, in every order in which their commands can reach the servers with at most so
 * many changes from one that could go on to another; how many orders there were. Who has to wait for a lock is not
 * asked again before another has done something.
 */
export async function inEveryOrder<T>(
  clients: readonly Client[],
  mostChanges: number,
  prepare: () => Promise<T>,
  operations: (of: T) => readonly (() => Promise<unknown>)[],
  check: (of: T, outcomes: unknown[]) => Promise<void>,
): Promise<number> {
  const parties = clients.map((client) => new Party(client));
  let choices: Choice[] = [];
  for (let orders = 1; ; orders++) {
    const prepared = await prepare();
    let [step, changes] = [0, 0];
    const choose = <O>(options: readonly O[]): O => {
      choices[step] ??= { taken: 0, of: options.length };
      return options[choices[step++].taken];
    };
    const outcomes = Promise.all(
      operations(prepared).map((operation, position) => parties[position].run(operation)),
    );
    let current: Party | undefined;
    for (;;) {
      await Promise.all(parties.map((party) => party.settled()));
      const able = parties.filter((party) => !party.isDone && !party.isLockedOut);
      if (able.length === 0 && parties.every(({ isDone }) => isDone)) break;
      const goesOn = current !== undefined && able.includes(current);
      const others = able.filter((party) => party !== current);
      const next: Party = goesOn
        ? choose(changes < mostChanges ? [current as Party, ...others] : [current as Party])
        : choose(others.length > 0 ? others : parties.filter(({ isDone }) => !isDone));
      if (goesOn && next !== current) changes++;
      current = next;
      for (const party of parties) if (party !== current) party.isLockedOut = false;
      await current.step();
    }
    try {
      await check(prepared, await outcomes);
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
