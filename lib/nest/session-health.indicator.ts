import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { SessionRuntime } from '../session/session-runtime.js';

/** What `@nestjs/terminus` takes from an indicator: one entry, under the name that was asked for. */
export type SessionHealth<Key extends string = string> = Record<
  Key,
  { readonly status: 'up' } | { readonly status: 'down'; readonly message: string }
>;

/** Between two attempts to reach the store after the boot, in milliseconds; doubled each time. */
const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 2000;

/**
 * Whether the session store can be reached: a readiness check for `@nestjs/terminus`, which it does not need itself.
 *
 * ```ts
 * @Get('ready')
 * @HealthCheck()
 * ready() {
 *   return this.health.check([() => this.sessions.isHealthy()]);
 * }
 * ```
 *
 * After the boot it also connects the store, in the background and with retries, so that the first request does not
 * have to wait for that.
 */
@Injectable()
export class SessionHealthIndicator implements OnApplicationBootstrap, OnApplicationShutdown {
  readonly #runtime: SessionRuntime;
  #closing = false;
  #retry: NodeJS.Timeout | undefined;

  constructor(@Inject(SessionRuntime) runtime: SessionRuntime) {
    this.#runtime = runtime;
  }

  /**
   * Up, or down with a message, within `storeTimeout`. A store without `ping()` keeps its sessions in this process,
   * and is up.
   */
  async isHealthy<const Key extends string = 'session'>(key = 'session' as Key): Promise<SessionHealth<Key>> {
    const health = await this.#runtime.store.ping().then(
      () => ({ status: 'up' as const }),
      () => ({ status: 'down' as const, message: 'The session store cannot be reached.' }),
    );
    return { [key]: health } as SessionHealth<Key>;
  }

  onApplicationBootstrap(): void {
    this.#warmUp(FIRST_PAUSE);
  }

  onApplicationShutdown(): void {
    this.#closing = true;
    clearTimeout(this.#retry);
  }

  #warmUp(pause: number): void {
    this.#runtime.store.ping().catch(() => {
      if (this.#closing) return;
      const again = (): void => this.#warmUp(Math.min(2 * pause, LONGEST_PAUSE));
      this.#retry = setTimeout(again, pause).unref();
    });
  }
}
