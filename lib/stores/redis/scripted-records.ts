import { randomUUID } from 'node:crypto';
import { deltaBetween, mergedRecord } from '../merged-record.js';
import type { SessionDelta, SessionRecord } from '../session-store.js';
import { isReply, type RedisCommands } from './redis-commands.js';
import type { RedisKeys } from './redis-keys.js';
import { COMMIT, CREATE, DESTROY, DISCARD, INDEX, ROTATE, TAKE } from './scripts.js';
import { changesOf, type Indexed, pairsOf, recordIn, ROTATION } from './session-hash.js';
import { type SessionRecords, timeToLive } from './session-records.js';

/** How long a record that has moved says where, at least, in milliseconds. */
const TAKEN = 10_000;

/** Attempts at a rotation. Before each but the first somebody else has logged in or out in the session. */
const MOST_ATTEMPTS = 10;

/** Changes records by scripts: each change of one key is one command, and atomic. */
export class ScriptedRecords implements SessionRecords {
  readonly listsKeys = true;
  readonly #commands: RedisCommands;
  readonly #keys: RedisKeys;
  #oneScriptMayRotate: boolean;

  constructor(commands: RedisCommands, keys: RedisKeys) {
    this.#commands = commands;
    this.#keys = keys;
    this.#oneScriptMayRotate = !commands.isCluster;
  }

  async create(key: string, record: SessionRecord, now: number): Promise<boolean> {
    const arguments_ = [now, timeToLive(record.expiresAt, now), ...pairsOf(record)];
    return Number(await this.#commands.script(CREATE, [key], arguments_)) === 1;
  }

  async commit(key: string, delta: SessionDelta, now: number): Promise<Indexed | undefined> {
    return indexed(await this.#commands.script(COMMIT, [key], [now, ...merging(delta, now)]));
  }

  async rotate(
    id: string,
    newId: string,
    delta: SessionDelta,
    now: number,
    reindex: (before: Indexed) => Promise<void>,
  ): Promise<boolean> {
    if (this.#oneScriptMayRotate) {
      try {
        return await this.#rotateAtOnce(id, newId, delta, now);
      } catch (error) {
        // A cluster behind an address that looks like one server.
        if (!isReply(error, /^CROSSSLOT/)) throw error;
        this.#oneScriptMayRotate = false;
      }
    }
    return this.#rotateAcross(id, newId, delta, now, reindex);
  }

  async destroy(key: string, now: number): Promise<Indexed | undefined> {
    return indexed(await this.#commands.script(DESTROY, [key], [now]));
  }

  async discard(key: string, expirySeen = ''): Promise<boolean> {
    return Number(await this.#commands.script(DISCARD, [key], [expirySeen])) === 1;
  }

  index(key: string, id: string, until: number, now: number): Promise<unknown> {
    return this.#commands.script(INDEX, [key], [now, timeToLive(until, now), id, until]);
  }

  /**
   * Rotation in one script, with the indexes of the user before and after it. A script's keys must be known beforehand,
   * and the first is not: it is said to be nobody's, as of a visitor who logs in. If it is somebody's, the script does
   * nothing and says whose, and the next attempt says so too.
   */
  async #rotateAtOnce(id: string, newId: string, delta: SessionDelta, now: number): Promise<boolean> {
    const [key, newKey] = [id, newId].map((either) => this.#keys.session(either));
    const indexOf = (userId?: string | null): string => (userId ? this.#keys.user(userId) : key);
    const changes = [...merging(delta, now), ROTATION, randomUUID()];
    let user = '';
    for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
      const { userId = user } = delta.header;
      const keys = [key, newKey, indexOf(user), indexOf(userId)];
      const reply = await this.#commands.script(ROTATE, keys, [now, user, id, newId, ...changes]);
      if (!reply) return false;
      const [isDone, owner] = reply as [number, string | null | undefined];
      if (Number(isDone) === 1) return true;
      user = owner ?? '';
    }
    throw new Error(`The session's user changed ${MOST_ATTEMPTS} times while it was to be moved`);
  }

  /**
   * Rotation between two servers, which no script can do at once. The new record first, then the old one:
   *
   * 1. HGETALL of the old record.
   * 2. CREATE of the new one, from that and the delta. Nobody has its id yet.
   * 3. TAKE on the old key: one script that ends the session under its old id and hands out what it held.
   * 4. Only if that was not what step 1 had seen: COMMIT of the difference to the new record.
   * 5. The new id enters the user's index, and the old one leaves it. Whoever reads the index between step 3 and this
   *    finds the old id, and under it which the new one is.
   * 6. DEL of the old record.
   *
   * Step 3 decides. Of several rotations one takes the record; the others find it gone and remove what they wrote. A
   * commit before it is in what was handed out; one after it is told that its session is gone. A destruction before it
   * leaves nothing to take, so the rotation is told; one after it finds nothing and says so. Nothing is ever written to
   * the old key again.
   *
   * Whatever breaks, the session is in one of the two places: under its old id until step 3, under the new one from
   * then on. A process that dies before step 3 leaves a copy whose id nobody knows, until it expires. A command that
   * ioredis sends again after a broken connection finds its own work: the new record counts as created, and what was
   * taken is kept for whoever took it, for ten seconds.
   */
  async #rotateAcross(
    id: string,
    newId: string,
    delta: SessionDelta,
    now: number,
    reindex: (before: Indexed) => Promise<void>,
  ): Promise<boolean> {
    const commands = this.#commands;
    const [key, newKey] = [id, newId].map((either) => this.#keys.session(either));
    const seen = await this.#live(key, now);
    if (!seen) return false;
    const written = mergedRecord(seen, delta);
    // For longer than the commands take that follow.
    const kept = Math.max(TAKEN, 4 * commands.timeout);
    try {
      await this.create(newKey, written, now);
      const hash = (await commands.script(TAKE, [key], [now, newId, kept])) as string[] | null;
      const taken = hash && recordIn(hash);
      if (taken) {
        const missing = deltaBetween(written, mergedRecord(taken, delta));
        if (!missing || (await this.commit(newKey, missing, now))) {
          await reindex(taken);
          await commands.run('del', [key]).catch(() => {}); // it would go by itself
          return true;
        }
      }
    } catch (error) {
      // Its id will not be handed out.
      await commands.run('del', [newKey]).catch(() => {});
      throw error;
    }
    await commands.run('del', [newKey]);
    return false;
  }

  async #live(key: string, now: number): Promise<SessionRecord | undefined> {
    try {
      const record = recordIn(await this.#commands.hash(key));
      return record && record.expiresAt > now ? record : undefined;
    } catch (error) {
      if (!isReply(error, /^WRONGTYPE/)) throw error;
      return undefined;
    }
  }
}

/** What a script merges into a record, as its arguments. */
function merging(delta: SessionDelta, now: number): (string | number)[] {
  const { expiresAt } = delta.header;
  const { pairs, removed } = changesOf(delta);
  const lives = expiresAt === undefined ? '' : timeToLive(expiresAt, now);
  return [lives, removed.length, ...removed, ...pairs];
}

function indexed(reply: unknown): Indexed | undefined {
  if (!reply) return undefined;
  const [expiresAt, userId] = reply as [string, string | null];
  return { expiresAt: Number(expiresAt), userId: userId ?? undefined };
}
