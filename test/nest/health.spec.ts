import { Controller, Get } from '@nestjs/common';
import { HealthCheck, HealthCheckService, TerminusModule } from '@nestjs/terminus';
import { MemoryStore, SessionHealthIndicator } from 'nest-session';
import { onBothAdapters, serve, type Served } from '../support/app.js';

@Controller()
class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly sessions: SessionHealthIndicator,
  ) {}

  @Get('ready')
  @HealthCheck()
  ready() {
    return this.health.check([() => this.sessions.isHealthy()]);
  }

  @Get('named')
  @HealthCheck()
  named() {
    return this.health.check([() => this.sessions.isHealthy('session store')]);
  }
}

/** A store on a server that can be away. */
class RemoteStore extends MemoryStore {
  pings = 0;
  away = false;
  silent = false;
  #arrived: (() => void)[] = [];

  async ping(): Promise<void> {
    this.pings++;
    for (const arrived of this.#arrived.splice(0)) arrived();
    if (this.silent) await new Promise(() => {});
    if (this.away) throw new Error('refused');
  }

  /** Settles with the next ping. */
  get nextPing(): Promise<void> {
    return new Promise((resolve) => this.#arrived.push(resolve));
  }
}

onBothAdapters((adapter) => {
  describe('the health of the session store', () => {
    let served: Served;
    let remote: RemoteStore;
    const start = async (store?: RemoteStore, storeTimeout: number | string = 2) => {
      served = await serve(adapter, {
        controllers: [HealthController],
        imports: [TerminusModule],
        options: { store, storeTimeout },
      });
    };
    beforeEach(() => {
      remote = new RemoteStore();
    });
    afterEach(() => served.close());

    it('is good for a store that is in this process', async () => {
      await start();
      const { body } = await served.http.get('/ready').expect(200);
      expect(body).toMatchObject({ status: 'ok', info: { session: { status: 'up' } } });
    });

    it('is as good as the answer to a ping', async () => {
      await start(remote);
      await served.http.get('/ready').expect(200);
      remote.away = true;
      const { body } = await served.http.get('/ready').expect(503);
      expect(body).toMatchObject({
        status: 'error',
        error: { session: { status: 'down', message: 'The session store cannot be reached.' } },
      });
      remote.away = false;
      await served.http.get('/ready').expect(200);
    });

    it('is bad when there is no answer in time', async () => {
      await start(remote, '20ms');
      remote.silent = true;
      expect((await served.http.get('/ready')).status).toBe(503);
    });

    it('is that of both stores while sessions move, and of the new one afterwards', async () => {
      await start(remote);
      const next = new RemoteStore();
      const status = async () => (await served.http.get('/ready')).status;
      await served.sessions.useStore(next, { migrate: true });
      expect(await status()).toBe(200);
      remote.away = true;
      expect(await status()).toBe(503);
      await served.sessions.useStore(next);
      expect(await status()).toBe(200);
      next.away = true;
      expect(await status()).toBe(503);
    });

    it('goes by the name it is given', async () => {
      await start();
      const { body } = await served.http.get('/named').expect(200);
      expect(body.info).toEqual({ 'session store': { status: 'up' } });
    });

    it('makes no session', async () => {
      await start();
      const response = await served.http.get('/ready').expect(200);
      expect(response.headers['set-cookie']).toBeUndefined();
      expect(await served.sessions.count()).toBe(0);
      expect(served.store.drain()).toEqual([]);
    });

    it('is asked at boot, and again until there is an answer, and then no more', async () => {
      remote.away = true;
      const first = remote.nextPing;
      await start(remote);
      await first;
      await remote.nextPing;
      remote.away = false;
      await remote.nextPing;
      expect(remote.pings).toBe(3);
      expect(served.log.filter((line) => line.includes('could not be reached (ping): refused'))).toHaveLength(
        2,
      );
    });
  });
});

describe('the store is connected after the boot', () => {
  const { jest } = import.meta;
  beforeEach(() => void jest.useFakeTimers());
  afterEach(() => void jest.useRealTimers());

  it('with longer and longer pauses, until the application closes', async () => {
    const began = Date.now();
    const pings: number[] = [];
    const store = {
      ping: () => {
        pings.push(Date.now() - began);
        return Promise.reject(new Error('refused'));
      },
    };
    const indicator = new SessionHealthIndicator({ store } as never);
    indicator.onApplicationBootstrap();
    await jest.advanceTimersByTimeAsync(8000);
    expect(pings).toEqual([0, 200, 600, 1400, 3000, 5000, 7000]);
    indicator.onApplicationShutdown();
    await jest.advanceTimersByTimeAsync(8000);
    expect(pings).toHaveLength(7);
  });

  it('and not once more when the application closes before the answer', async () => {
    let pings = 0;
    let refuse = (): void => {};
    const store = {
      ping: () => {
        pings++;
        return new Promise((_, reject) => (refuse = () => reject(new Error('refused'))));
      },
    };
    const indicator = new SessionHealthIndicator({ store } as never);
    indicator.onApplicationBootstrap();
    indicator.onApplicationShutdown();
    refuse();
    await jest.advanceTimersByTimeAsync(8000);
    expect(pings).toBe(1);
  });

  it('while the process may end: the pause does not keep it alive', async () => {
    jest.useRealTimers();
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const before = timers();
    let answered = (): void => {};
    const refused = new Promise<void>((resolve) => (answered = resolve));
    const store = {
      ping: () => {
        answered();
        return Promise.reject(new Error('refused'));
      },
    };
    const indicator = new SessionHealthIndicator({ store } as never);
    indicator.onApplicationBootstrap();
    await refused;
    await new Promise(setImmediate);
    expect(timers()).toBeLessThanOrEqual(before);
    indicator.onApplicationShutdown();
  });
});
