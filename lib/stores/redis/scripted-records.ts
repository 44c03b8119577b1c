import { randomUUID } from 'node:crypto';
import { mergedRecord } from '../merged-record.js';
import type { SessionDelta, SessionRecord } from '../session-store.js';
import { isReply, type RedisCommands } from './redis-commands.js';
import { COMMIT, CREATE, DESTROY, DISCARD, INDEX, ROTATE, type Script, TAKE } from './scripts.js';
import { changesOf, type Indexed, pairsOf, recordIn, ROTATION } from './session-hash.js';
import { type SessionRecords, timeToLive } from './session-records.js';

/** How long a record waits for the rotation that has taken it, and a new key for its record, in milliseconds. */
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
   * Rotation between two servers, which no script can do at once. Three steps:
   *
   * 1. `SET newKey '' PX NX`: the server of the new record can be reached and takes writes, or nothing has happened.
   * 2. TAKE on the old key: one script that ends the session under its old id and hands out what it held.
   * 3. CREATE of the new record, from that and the delta.
   *
   * Step 2 decides. Of several rotations one takes the record, the others find it gone. A commit before it is in what
   * was handed out; one after it is told that its session is gone. A destruction before it leaves nothing to take, so
   * the rotation is told; one after it finds nothing and says so. Never are both ids alive, since the new one is
   * written after the old has ended, and nothing ever writes to the old one again.
   *
   * A process that dies before step 2 has changed nothing. One that dies, or loses the server of the new record,
   * between steps 2 and 3 takes the session with it: it had not answered, so nobody has the new id, and whoever has the
   * old one begins anew. A command that ioredis sends again after a broken connection finds its own work: what was
   * taken is kept for ten seconds for whoever took it, and the new record counts as created.
   */
  async #rotateAcross(
    key: string,
    newKey: string,
    delta: SessionDelta,
    now: number,
  ): Promise<Indexed | undefined> {
    const commands = this.#commands;
    const reserved = await commands.run('set', [newKey, '', 'PX', TAKEN, 'NX']);
    const taken = (await commands.script(TAKE, [key], [now, randomUUID(), TAKEN])) as string[] | null;
    if (!taken) {
      if (reserved) await commands.run('del', [newKey]);
      return undefined;
    }
    const before = recordIn(taken);
    if (!before) return undefined;
    await this.create(newKey, mergedRecord(before, delta), now);
    await commands.run('del', [key]).catch(() => {}); // it would go by itself
    return before;
  }
}

function indexed(reply: unknown): Indexed | undefined {
  if (!reply) return undefined;
  const [expiresAt, userId] = reply as [string, string | null];
  return { expiresAt: Number(expiresAt), userId: userId ?? undefined };
}
