import type { RedisStore } from 'nest-session/redis';
import { delta, newId, outcome, record } from './records.js';

/** What a session's user was told last. */
interface Known {
  id: string;
  /** The number of the last write that was acknowledged. */
  saved: number;
  /** The last operation was refused, so nobody knows whether it happened. */
  unclear: boolean;
  loggedOut: boolean;
}

/** What came of everything that was asked of the store while something happened to its servers. */
export interface Report {
  answered: number;
  refused: number;
  /** Sessions told 'gone', or not found, that had been saved and were not logged out. */
  lostSessions: number;
  /** Sessions of which the last acknowledged write is missing. */
  lostWrites: number;
  /** Sessions found although their logout had been acknowledged. */
  cameBack: number;
}

/** Users who log in, write, and log out, one thing after the other each. */
export class Load {
  answered = 0;
  #refused = 0;
  #running = true;
  readonly #sessions: Known[] = [];
  readonly #users: Promise<void>[];

  /** @param replicated rejects where what has just been acknowledged is not on a replica */
  constructor(
    private readonly store: RedisStore,
    private readonly replicated: () => Promise<unknown> = async () => {},
    users = 40,
  ) {
    this.#users = Array.from({ length: users }, (_, user) => this.#live(`user-${user}`));
  }

  /** Settles when so many more operations have been answered. */
  async progress(operations: number): Promise<void> {
    for (const goal = this.answered + operations; this.answered < goal;) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#users);
  }

  /** Looks at every session there was, and compares it with what its user was told. */
  async report(): Promise<Report> {
    let [lostSessions, lostWrites, cameBack] = [0, 0, 0];
    for (const { id, saved, unclear, loggedOut } of this.#sessions) {
      const found = await this.store.load(id);
      if (loggedOut) cameBack += Number(found !== undefined);
      else if (!found) lostSessions += Number(!unclear);
      else lostWrites += Number(Number(found.fields.get('n')) < saved);
    }
    return { answered: this.answered, refused: this.#refused, lostSessions, lostWrites, cameBack };
  }

  async #live(userId: string): Promise<void> {
    while (this.#running) {
      const session: Known = { id: newId(), saved: 0, unclear: false, loggedOut: false };
      if ((await this.#ask(this.store.create(session.id, record({ n: '0' })))) !== 'created') continue;
      this.#sessions.push(session);
      const next = newId();
      const login = delta({ n: '1' }, [], { userId });
      if ((await this.#ask(this.store.rotate(session.id, next, login))) !== 'saved') {
        session.unclear = true;
        continue;
      }
      session.id = next;
      session.saved = 1;
      await this.#write(session);
      if (session.unclear || Math.random() < 0.5) continue;
      const destroyed = await this.#ask(this.store.destroy(session.id));
      session.loggedOut = destroyed !== 'refused';
      session.unclear = destroyed === 'refused';
    }
  }

  async #write(session: Known): Promise<void> {
    for (let count = 2; count < 12 && this.#running; count++) {
      const answer = await this.#ask(this.store.commit(session.id, delta({ n: `${count}` })));
      if (answer === 'gone') return;
      if (answer === 'saved') session.saved = count;
    }
  }

  async #ask<T>(operation: Promise<T>): Promise<T | 'refused'> {
    const answer = await outcome(
      operation.then(async (said) => {
        await this.replicated();
        return said;
      }),
    );
    if (answer === 'refused') this.#refused++;
    else this.answered++;
    return answer;
  }
}
