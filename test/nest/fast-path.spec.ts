import { Controller, Get, UseInterceptors } from '@nestjs/common';
import { InterceptorsConsumer } from '@nestjs/core/interceptors/interceptors-consumer.js';
import { Session, SessionInterceptor } from 'nest-session';
import { adapters, serve } from '../support/app.js';

const INSTALLED = Symbol.for('nest-session:fast-path');

@Controller()
class CountController {
  @Get('count')
  count(@Session() session: Session<any>) {
    return { count: session.increment('count') };
  }

  @Get('again')
  @UseInterceptors(SessionInterceptor)
  again(@Session() session: Session<any>) {
    return { count: session.increment('count') };
  }
}

describe.each(adapters.map((adapter) => [adapter]))('the fast path, on %s', (adapter) => {
  const { prototype } = InterceptorsConsumer as unknown as {
    prototype: { intercept(...args: unknown[]): Promise<unknown>; [INSTALLED]?: boolean };
  };
  const { intercept } = prototype;
  let calls: number;

  /** Counts the routes whose interceptors Nest runs itself. */
  function count(original: typeof intercept): void {
    calls = 0;
    prototype.intercept = function (...args) {
      calls++;
      return original.apply(this, args);
    };
  }

  beforeEach(() => {
    delete prototype[INSTALLED];
    count(intercept);
  });
  afterAll(() => {
    delete prototype[INSTALLED];
    prototype.intercept = intercept;
  });

  async function counts(): Promise<{ log: string[]; calls: number }> {
    const served = await serve(adapter, { controllers: [CountController] });
    try {
      const browser = served.browser();
      calls = 0;
      expect((await browser.get('/count')).body).toEqual({ count: 1 });
      expect((await browser.get('/again')).body).toEqual({ count: 2 });
      expect(served.store.drain()).toEqual(['create', 'load', 'commit']);
      return { log: served.log, calls };
    } finally {
      await served.close();
    }
  }

  it('takes routes past Nest’s interceptors, those with @UseInterceptors(SessionInterceptor) too', async () => {
    // The second route has the interceptor twice: one is taken out, the other finds nothing left to do.
    expect(await counts()).toEqual({ log: [], calls: 1 });
    expect(prototype[INSTALLED]).toBe(true);
  });

  it('is installed once, however many applications there are', async () => {
    await counts();
    const installed = prototype.intercept;
    await counts();
    expect(prototype.intercept).toBe(installed);
  });

  it('is left out, with one warning, where Nest’s inside is not as expected', async () => {
    count(async () => 'something else');
    const foreign = prototype.intercept;
    const served = await serve(adapter, { controllers: [] });
    await served.close();
    expect(prototype.intercept).toBe(foreign);
    expect(served.log).toEqual([expect.stringMatching(/without the fast path .*its interceptors differ/)]);
  });

  it('is not needed', async () => {
    Object.defineProperty(prototype, INSTALLED, { value: true, configurable: true });
    expect(await counts()).toEqual({ log: [], calls: 2 });
  });
});
