import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { BrowserContext, Page } from 'playwright-core';
import { AppModule } from '../../sample/spa/app.module.js';
import { onBothAdapters } from '../support/app.js';
import { type Attacks, fetches, form, withCookieToken } from './support/attacks.js';
import { fillIn, open, person, withChromium } from './support/browser.js';
import { type Attacker, serveAttacker, serveSample, type Site } from './support/sites.js';

withChromium();

const signIn = (page: Page) => page.getByRole('heading', { name: 'Sign in' });
const hello = (page: Page) => page.getByRole('heading', { name: 'Hello, Alice' });

/** What is done in a tab is done in front: Chromium takes its time with the others. */
async function logIn(page: Page): Promise<void> {
  await page.bringToFront();
  await fillIn(page);
  await hello(page).waitFor();
}

async function logOut(page: Page): Promise<void> {
  await page.bringToFront();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await signIn(page).waitFor();
}

async function submit(page: Page, text: string): Promise<void> {
  await page.bringToFront();
  await page.getByLabel('What is to be done?').fill(text);
  await page.getByRole('button', { name: 'Add' }).click();
}

async function add(page: Page, text: string): Promise<void> {
  await submit(page, text);
  await page.getByRole('listitem').filter({ hasText: text }).waitFor();
}

const list = (page: Page) => page.getByRole('listitem').locator('span').allTextContents();

async function xsrf(context: BrowserContext): Promise<string | undefined> {
  return (await context.cookies()).find(({ name }) => name.endsWith('XSRF-TOKEN'))?.value;
}

onBothAdapters((adapter) => {
  describe('the single-page sample', () => {
    let site: Site;
    beforeAll(async () => {
      site = await serveSample(adapter, AppModule);
    });
    afterAll(() => site.close());

    it('logs in, keeps a list, logs out and logs in again, all in one page', async () => {
      const user = await person();
      const page = await open(user, site.url);
      await page.evaluate('window.neverReloaded = true');
      await signIn(page).waitFor();
      const tokens = [await xsrf(user)];

      await logIn(page);
      tokens.push(await xsrf(user));
      await add(page, 'Milk');
      await add(page, 'Bread');
      await add(page, 'Tea');
      const saved = page.waitForResponse((response) => response.request().method() === 'PATCH');
      await page.getByRole('checkbox', { name: 'Milk' }).check();
      expect((await saved).status()).toBe(200);
      await page.getByRole('listitem').filter({ hasText: 'Bread' }).getByRole('button').click();
      await page.getByText('Bread').waitFor({ state: 'detached' });
      expect(await list(page)).toEqual(['Milk', 'Tea']);
      expect(await xsrf(user)).toBe(tokens[1]);

      await logOut(page);
      tokens.push(await xsrf(user));
      await logIn(page);
      tokens.push(await xsrf(user));
      expect(await list(page)).toEqual([]);
      await add(page, 'Coffee');

      for (const token of tokens) expect(token).toMatch(/^[\w-]{64}$/);
      expect(new Set(tokens).size).toBe(tokens.length);
      expect(await page.evaluate('window.neverReloaded')).toBe(true);
    });

    it('shows the list again after a reload', async () => {
      const page = await open(await person(), site.url);
      await logIn(page);
      await add(page, '<b>Milk</b>');
      await page.getByRole('checkbox').check();
      await page.reload();
      await page.getByRole('listitem').waitFor();
      expect(await list(page)).toEqual(['<b>Milk</b>']);
      expect(await page.getByRole('checkbox').isChecked()).toBe(true);
    });

    it('says that the password is wrong, and takes the right one', async () => {
      const page = await open(await person(), site.url);
      await fillIn(page, 'wrong');
      await page.getByRole('alert').waitFor();
      expect(await page.getByRole('alert').textContent()).toBe('Invalid credentials');
      await logIn(page);
      expect(await page.getByRole('alert').count()).toBe(0);
    });

    it('works in two tabs, of which one logs out and in', async () => {
      const user = await person();
      const [one, two] = [await open(user, site.url), await open(user, site.url)];
      await signIn(two).waitFor();
      await logIn(one);
      await two.reload();
      await hello(two).waitFor();
      await add(two, 'Two');
      await add(one, 'One');

      await logOut(one);
      await submit(two, 'too late');
      await signIn(two).waitFor();

      await logIn(two);
      await logIn(one);
      await add(two, 'Tea');
      await add(one, 'Milk');
      await two.reload();
      await two.getByRole('listitem').first().waitFor();
      expect(await list(two)).toEqual(['Tea', 'Milk']);
    });

    it('gives the browser the token in a cookie for scripts, and only that', async () => {
      const user = await person();
      const page = await open(user, site.url);
      await logIn(page);
      const cookie = { domain: '127.0.0.1', path: '/', sameSite: 'Lax', secure: false };
      const cookies = await user.cookies();
      expect(cookies).toHaveLength(2);
      expect(cookies).toContainEqual(
        expect.objectContaining({ ...cookie, name: 'session_id', httpOnly: true }),
      );
      expect(cookies).toContainEqual(
        expect.objectContaining({ ...cookie, name: 'XSRF-TOKEN', httpOnly: false }),
      );
    });
  });

  describe('the single-page sample over HTTPS', () => {
    let site: Site;
    beforeAll(async () => {
      site = await serveSample(adapter, AppModule, { https: true });
    });
    afterAll(() => site.close());

    it('works with cookies that are all Secure and bound to this host', async () => {
      const user = await person();
      const page = await open(user, site.url);
      await logIn(page);
      await add(page, 'Milk');
      const cookies = await user.cookies();
      expect(cookies.map(({ name, httpOnly, secure }) => [name, httpOnly, secure])).toEqual(
        expect.arrayContaining([
          ['__Host-session_id', true, true],
          ['__Host-XSRF-TOKEN', false, true],
        ]),
      );
      expect(cookies).toHaveLength(2);
      await logOut(page);
      expect((await user.cookies()).every(({ name, secure }) => secure && name.startsWith('__Host-'))).toBe(
        true,
      );
    });
  });

  describe.each(['sameSite', 'crossSite'] as const)('a %s attacker on its API', (relation) => {
    const ways: Attacks = [...form, ...fetches, ...withCookieToken];
    let guarded: Site;
    let unguarded: Site;
    let attacker: Attacker;

    beforeAll(async () => {
      guarded = await serveSample(adapter, AppModule, { cors: true });
      unguarded = await serveSample(adapter, AppModule, { cors: true, unguarded: true });
      attacker = await serveAttacker();
    });
    afterAll(() => Promise.all([guarded, unguarded, attacker].map((server) => server?.close())));

    const forgery = ({ url }: Site) => ({ to: `${url}/api/todos`, fields: { text: 'Forged' } });

    if (relation === 'sameSite') {
      it('would succeed', async () => {
        const user = await person();
        const page = await open(user, unguarded.url);
        await logIn(page);
        const lure = await user.newPage();
        for (const [, attack] of ways) await attack(lure, attacker[relation], forgery(unguarded));
        await page.reload();
        await page.getByRole('listitem').first().waitFor();
        expect(await list(page)).toEqual(ways.map(() => 'Forged'));
      });
    }

    it('fails', async () => {
      const user = await person();
      const page = await open(user, guarded.url);
      await logIn(page);
      await add(page, 'Milk');
      const lure = await user.newPage();
      for (const [way, attack] of ways) {
        const status = await attack(lure, attacker[relation], forgery(guarded));
        expect({ way, status }).toEqual({ way, status: 403 });
      }
      await page.reload();
      await page.getByRole('listitem').first().waitFor();
      expect(await list(page)).toEqual(['Milk']);
    });
  });

  describe('the single-page sample as built', () => {
    let started: ChildProcess;
    afterAll(async () => {
      if (started?.exitCode !== null || started.signalCode !== null) return;
      const exit = once(started, 'exit');
      started.kill();
      await exit;
    });

    it('finds its page, script and style', async () => {
      const environment = Object.entries(process.env).filter(([name]) => !/^(SESSION|NODE)_/.test(name));
      started = spawn(
        process.execPath,
        ['sample/spa/dist/main.js', ...(adapter === 'fastify' ? ['--fastify'] : [])],
        { env: { ...Object.fromEntries(environment), PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit'] },
      );
      const url = await new Promise<string>((resolve, reject) => {
        let output = '';
        started.stdout?.setEncoding('utf8').on('data', (text: string) => {
          output += text;
          const [address] = /http:\/\/localhost:\d+(?= )/.exec(output) ?? [];
          if (address) resolve(address);
        });
        started.once('exit', (code) => reject(new Error(`The sample ended with code ${code}`)));
      });
      const page = await open(await person(), url);
      await logIn(page);
      await add(page, 'Milk');
      expect(
        await page.locator('main').evaluate('getComputedStyle(document.querySelector("main")).borderRadius'),
      ).toBe('16px');
    });
  });
});
