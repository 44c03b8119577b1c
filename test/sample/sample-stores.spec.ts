import { adapters, Browser } from '../support/app.js';
import { alice, Sample, submitted } from '../support/sample.js';
import { removeTemporary, temporaryFolder } from '../support/temporary.js';

const SECRET = 'thirty-two bytes for these tests';

describe.each(adapters.map((adapter) => [adapter]))(
  'The login sample on %s, by SESSION_DRIVER',
  (adapter) => {
    const samples: Sample[] = [];
    const start = async (
      variables: Record<string, string>,
    ): Promise<{ sample: Sample; browser: Browser }> => {
      const flags = adapter === 'fastify' ? ['--fastify'] : [];
      const sample = Sample.start(0, flags, { SESSION_SECRET: SECRET, ...variables });
      samples.push(sample);
      return { sample, browser: new Browser(await sample.address()) };
    };
    /** The same browser, on another process. */
    const moved = (from: Browser, to: Browser): Browser => {
      for (const [name, value] of from.cookies) to.cookies.set(name, value);
      return to;
    };
    const userOf = async (browser: Browser): Promise<unknown> => (await browser.get('/api/me')).body.userId;

    afterEach(() => Promise.all(samples.splice(0).map((sample) => sample.stop())));
    afterAll(removeTemporary);

    it('memory forgets everyone with its process', async () => {
      const { browser } = await start({ SESSION_DRIVER: 'memory' });
      await submitted(browser, '/login', alice);
      expect(await userOf(browser)).toBe('alice');
      expect(
        await userOf(moved(browser, (await start({ SESSION_DRIVER: 'memory' })).browser)),
      ).toBeUndefined();
    }, 30_000);

    it('file shares sessions between processes, and keeps them over a restart', async () => {
      const variables = { SESSION_DRIVER: 'file', SESSION_FILE_DIRECTORY: await temporaryFolder() };
      const [one, two] = [await start(variables), await start(variables)];
      await submitted(one.browser, '/login', alice);
      const other = moved(one.browser, two.browser);
      expect(await userOf(other)).toBe('alice');
      await one.sample.stop('SIGKILL');
      const again = moved(other, (await start(variables)).browser);
      expect(await userOf(again)).toBe('alice');
      await submitted(again, '/logout');
      expect(await userOf(other)).toBeUndefined();
    }, 30_000);

    it('cookie needs nothing but the secret', async () => {
      const { browser, sample } = await start({ SESSION_DRIVER: 'cookie' });
      await submitted(browser, '/login', alice);
      expect(sample.output).toContain('CookieStore has no revocations');
      await sample.stop();
      const again = moved(browser, (await start({ SESSION_DRIVER: 'cookie' })).browser);
      expect(await userOf(again)).toBe('alice');
      await submitted(again, '/logout');
      expect(await userOf(again)).toBeUndefined();
    }, 30_000);
  },
);
