import { randomUUID } from 'node:crypto';
import { deltaBetween, mergedRecord } from '../merged-record.js';
import type { SessionDelta, SessionRecord } from '../session-store.js';
import { isReply, type RedisCommands } from './redis-commands.js';
import { COMMIT, CREATE, DESTROY, DISCARD, INDEX, ROTATE, type Script, TAKE } from './scripts.js';
import { changesOf, type Indexed, pairsOf, recordIn, ROTATION } from './session-hash.js';
import { type SessionRecords, timeToLive } from './session-records.js';

/** How long a record is kept for the rotation that has taken it, in milliseconds. */
const TAKEN = 10_000;

/** Changes records by scripts: each change of one key is one command, and atomic. */
export class ScriptedRecords implements SessionRecords {
  readonly listsKeys = true;
  readonly #commands: RedisCommands;
  #oneScriptMayRotate: boolean;

  constructor(commands: RedisCommands) {
    this.#commands = commands;
    this.#oneScriptMayRotate = !commands.isCluster;
  }

  async create(key: string, record: SessionRecord, now: number): Promise<boolean> {
    const arguments_ = [now, timeToLive(record.expiresAt, now), ...pairsOf(record)];
    return Number(await this.#commands.script(CREATE, [key], arguments_)) === 1;
  }

  async commit(key: string, delta: SessionDelta, now: number): Promise<Indexed | undefined> {
    return this.#change(COMMIT, [key], delta, now);
  }

  async rotate(key: string, newKey: string, delta: SessionDelta, now: number): Promise<Indexed | undefined> {
    if (this.#oneScriptMayRotate) {
      try {
        return await this.#change(ROTATE, [key, newKey], delta, now, ROTATION, randomUUID());
      } catch (error) {
        // A cluster behind an address that looks like one server.
        if (!isReply(error, /^CROSSSLOT/)) throw error;
        this.#oneScriptMayRotate = false;
      }
    }
    return this.#rotateAcross(key, newKey, delta, now);
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

  async #change(
    script: Script,
    keys: string[],
    delta: SessionDelta,
    now: number,
    ...more: string[]
  ): Promise<Indexed | undefined> {
    const { expiresAt } = delta.header;
    const { pairs, removed } = changesOf(delta);
    const lives = expiresAt === undefined ? '' : timeToLive(expiresAt, now);
    return indexed(
      await this.#commands.script(script, keys, [now, lives, removed.length, ...removed, ...pairs, ...more]),
    );
  }

  /**
   * Rotation between two servers, which no script can do at once. The new record first, then the old one:
   *
   * 1. HGETALL of the old record.
   * 2. CREATE of the new one, from that and the delta. Nobody has its id yet.
   * 3. TAKE on the old key: one script that ends the session under its old id and hands out what it held.
   * 4. Only if that was not what step 1 had seen: COMMIT of the difference to the new record.
   *
   * Step 3 decides. Of several rotations one takes the record; the others find it gone and remove what they wrote. A
   * commit before it is in what was handed out; one after it is told that its session is gone. A destruction before it
   * leaves nothing to take, so the rotation is told; one after it finds nothing and says so. Nothing is ever written to
   * the old key again.
   *
   * Whatever breaks, the session is in one of the two places: under its old id until step 3, under the new one from
   * then on. A process that dies before step 3 leaves a copy whose id nobody knows, until it expires. A command that
   * ioredis sends again after a broken connection finds its own work: the new record counts as created, and what was
   * taken is kept for ten seconds for whoever took it.
   */
  async #rotateAcross(
    key: string,
    newKey: string,
    delta: SessionDelta,
    now: number,
  ): Promise<Indexed | undefined> {
    const commands = this.#commands;
    const seen = await this.#live(key, now);
    if (!seen) return undefined;
    const written = mergedRecord(seen, delta);
    try {
      await this.create(newKey, written, now);
      const hash = (await commands.script(TAKE, [key], [now, randomUUID(), TAKEN])) as string[] | null;
      const taken = hash && recordIn(hash);
      if (taken) {
        const missing = deltaBetween(written, mergedRecord(taken, delta));
        if (!missing || (await this.commit(newKey, missing, now))) {
          await commands.run('del', [key]).catch(() => {}); // it would go by itself
          return taken;
        }
      }
    } catch (error) {
      // Its id will not be handed out.
      await commands.run('del', [newKey]).catch(() => {});
      throw error;
    }
    await commands.run('del', [newKey]);
    return undefined;
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

function indexed(reply: unknown): Indexed | undefined {
  if (!reply) return undefined;
  const [expiresAt, userId] = reply as [string, string | null];
  return { expiresAt: Number(expiresAt), userId: userId ?? undefined };
}
