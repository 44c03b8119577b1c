import { Injectable } from '@nestjs/common';
import { SessionManager } from './session-manager.js';
import type { Session } from './session.js';

/** A client of socket.io, or of `ws`. */
export interface SessionSocket {
  on(event: string, listener: () => void): unknown;
  close?(code?: number, reason?: string): unknown;
  disconnect?(close?: boolean): unknown;
}

/**
 * Closes sockets when their session ends: logged out, revoked, expired, or moved to another id, which the cookie of
 * the handshake no longer names (ASVS 5.0 V7.4.1). It hears of what happens in this process.
 *
 * ```ts
 * async handleConnection(client: Socket) {
 *   this.sockets.track(await this.sessions.open(client.request), client);
 * }
 * ```
 */
@Injectable()
export class SessionSockets {
  readonly #sockets = new Map<string, Set<SessionSocket>>();

  constructor(sessions: SessionManager) {
    sessions.events.subscribe((event) => {
      if (event.type === 'regenerated') this.#close(event.previousId);
      else if (event.type === 'destroyed' || event.type === 'expired') this.#close(event.id);
    });
  }

  /** Closes `client` when `session` ends. A session that the store does not know has no end to hear of. */
  track(session: Session, client: SessionSocket): void {
    if (session.isNew) return;
    const { id } = session;
    const sockets = this.#sockets.get(id) ?? new Set();
    this.#sockets.set(id, sockets.add(client));
    client.on(client.disconnect ? 'disconnect' : 'close', () => this.#forget(id, client));
  }

  #forget(id: string, client: SessionSocket): void {
    const sockets = this.#sockets.get(id);
    if (sockets?.delete(client) && sockets.size === 0) this.#sockets.delete(id);
  }

  #close(id: string): void {
    const sockets = this.#sockets.get(id) ?? [];
    this.#sockets.delete(id);
    for (const client of sockets) {
      if (client.disconnect) client.disconnect(true);
      else client.close?.(1008, 'The session has ended'); // RFC 6455 §7.4.1: policy violation
    }
  }
}
