import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { afterMilliseconds } from '../util/background-timer.js';
import type { SessionRecord } from '../stores/session-store.js';
import { throttleOf } from '../session/lifetime.js';
import { RequestSession } from '../session/request-session.js';
import { SessionRuntime } from '../session/session-runtime.js';
import type { Session } from '../session/session.js';

/** A client of socket.io, one of `ws`, or a response that is streamed to. */
export interface SessionSocket {
  on(event: string, listener: () => void): unknown;
  close?(code?: number, reason?: string): unknown;
  pause?(): unknown;
  terminate?(): unknown;
  disconnect?(close?: boolean): unknown;
  end?(): unknown;
  destroy?(): unknown;
  readonly readyState?: unknown;
  readonly disconnected?: boolean;
  readonly destroyed?: boolean;
}

/** What is open for one session. */
interface Tracked {
  readonly sockets: Set<SessionSocket>;
  readonly reload: () => Promise<SessionRecord | undefined>;
  /** When the session ends, as far as is known: milliseconds since the epoch. */
  expiresAt: number;
  timer: NodeJS.Timeout | undefined;
}

/** A socket that does not answer its close is cut after so long: milliseconds. */
const CLOSING = 1000;

/** A session is looked for so often at least, for what another process has ended: milliseconds. */
const LOOK_EVERY = 60_000;

/**
 * Closes sockets when their session ends: logged out, revoked, expired, or moved to another id, which the cookie of
 * the handshake no longer names (ASVS 5.0 V7.4.1).
 *
 * An end in this process closes at once. The store is asked when a socket is tracked, at the session's expiry (it may
 * have been extended), and once a minute or each tenth of `maxAge`, whichever is shorter: that is how an end in another
 * process is noticed. A store that cannot be reached closes nothing before the expiry that is known.
 *
 * ```ts
 * handleConnection(client: Socket) {
 *   this.sockets.track(this.sessions.open(client.request), client);
 * }
 * ```
 */
@Injectable()
export class SessionSockets implements OnApplicationShutdown {
  readonly #runtime: SessionRuntime;
  readonly #tracked = new Map<string, Tracked>();

  constructor(@Inject(SessionRuntime) runtime: SessionRuntime) {
    this.#runtime = runtime;
    runtime.events.observable.subscribe((event) => {
      if (event.type === 'regenerated') this.#close(event.previousId);
      else if (event.type === 'destroyed' || event.type === 'expired') this.#close(event.id);
    });
    runtime.onManyEnded.push(() => void this.#lookAll());
  }

  /**
   * Closes `client` when `session` ends; at once if it has ended, or if it cannot be opened. A session that the store does
   * not know has no end to hear of.
   *
   * @param session the session, or the promise of it
   * @param client a socket of socket.io or `ws`, or the response of a stream (Server-Sent Events)
   */
  track(session: Session | Promise<Session>, client: SessionSocket): void {
    if (session instanceof Promise) {
      // Why it cannot be opened was logged where it failed.
      session.then(
        (opened) => this.track(opened, client),
        () => this.#end(client),
      );
      return;
    }
    const transaction = RequestSession.transactionOf(session as RequestSession);
    const { id, status } = transaction;
    if (status === 'gone') return this.#end(client);
    if (status !== 'stored' || isClosed(client)) return;
    const tracked = this.#tracked.get(id) ?? {
      sockets: new Set<SessionSocket>(),
      reload: () => transaction.reload(),
      expiresAt: transaction.times.expiresAt,
      timer: undefined,
    };
    this.#tracked.set(id, tracked);
    tracked.sockets.add(client);
    client.on(client.disconnect ? 'disconnect' : 'close', () => this.#forget(id, client));
    // It may have ended since it was opened.
    void this.#look(id, tracked);
  }

  onApplicationShutdown(): void {
    for (const { timer } of this.#tracked.values()) clearTimeout(timer);
    this.#tracked.clear();
  }

  /** Asks the store for the session. Closes its sockets if it has ended, and looks again later if not. */
  async #look(id: string, tracked: Tracked): Promise<void> {
    const { now, lifetime } = this.#runtime;
    clearTimeout(tracked.timer);
    const expiresAt = await tracked.reload().then(
      (record) => record?.expiresAt ?? -Infinity,
      () => tracked.expiresAt, // logged where it failed
    );
    if (this.#tracked.get(id) !== tracked) return;
    tracked.expiresAt = expiresAt;
    const left = expiresAt - now();
    if (left <= 0) return this.#close(id);
    clearTimeout(tracked.timer);
    const delay = Math.min(left, throttleOf(lifetime), LOOK_EVERY);
    tracked.timer = afterMilliseconds(delay, () => void this.#look(id, tracked));
  }

  /** One after the other, so that the store is not asked for all at once. Ends: each look does, by the store's timeout. */
  async #lookAll(): Promise<void> {
    for (const [id, tracked] of [...this.#tracked]) await this.#look(id, tracked);
  }

  #forget(id: string, client: SessionSocket): void {
    const tracked = this.#tracked.get(id);
    if (!tracked?.sockets.delete(client) || tracked.sockets.size > 0) return;
    clearTimeout(tracked.timer);
    this.#tracked.delete(id);
  }

  #close(id: string): void {
    const tracked = this.#tracked.get(id);
    if (!tracked) return;
    clearTimeout(tracked.timer);
    this.#tracked.delete(id);
    for (const client of tracked.sockets) this.#end(client);
  }

  /** A listener of one that throws keeps no other open. */
  #end(client: SessionSocket): void {
    try {
      end(client);
    } catch (error) {
      this.#runtime.logger.error(error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
  }
}

function end(client: SessionSocket): void {
  if (client.disconnect) {
    client.disconnect(true);
  } else if (client.close) {
    client.close(1008, 'The session has ended'); // RFC 6455 §7.4.1: policy violation
    // Until the other side answers, `ws` would go on handing out its messages.
    client.pause?.();
    afterMilliseconds(CLOSING, () => client.terminate?.());
  } else {
    // Its writer may go on writing, which is an 'error' that nobody else may listen for.
    client.on('error', () => {});
    client.end?.();
    afterMilliseconds(CLOSING, () => client.destroy?.());
  }
}

/** True for one that has hung up: its 'close' has been. */
function isClosed({ readyState, disconnected, destroyed }: SessionSocket): boolean {
  return disconnected === true || destroyed === true || (typeof readyState === 'number' && readyState > 1);
}
