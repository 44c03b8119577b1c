import type { Page } from 'playwright-core';
import { AppModule } from '../../sample/login/app.module.js';
import { onBothAdapters } from '../support/app.js';
import { fillIn, open, person, withChromium } from './support/browser.js';
import { serveSample, type Site } from './support/sites.js';

withChromium();

const theme = (page: Page) => page.locator('html').getAttribute('data-theme');

async function logIn(page: Page, site: Site): Promise<void> {
  await page.goto(`${site.url}/login`);
  await fillIn(page);
  await page.waitForURL(`${site.url}/dashboard`);
}

onBothAdapters((adapter) => {
  describe('the login sample', () => {
    let site: Site;
    beforeAll(async () => {
      site = await serveSample(adapter, AppModule);
    });
    afterAll(() => site.close());

    it('greets once who logs in, keeps the theme, and shows nothing private after the logout', async () => {
      const page = await open(await person(), `${site.url}/dashboard`);
      expect(page.url()).toBe(`${site.url}/login`);
      expect(await page.getByRole('alert').textContent()).toBe('Please login to continue');
      await fillIn(page);
      await page.waitForURL(`${site.url}/dashboard`);
      expect(await page.getByRole('status').textContent()).toBe('Welcome back!');
      await page.reload();
      expect(await page.getByRole('heading').textContent()).toBe('Hello, Alice');
      expect(await page.getByRole('status').count()).toBe(0);

      expect(await theme(page)).toBe('light');
      await page.getByRole('button', { name: 'Dark' }).click();
      await page.locator('html[data-theme=dark]').waitFor();
      expect(page.url()).toBe(`${site.url}/dashboard`);

      await page.getByRole('button', { name: 'Sign out' }).click();
      await page.waitForURL(`${site.url}/`);
      expect(await page.getByRole('status').textContent()).toBe('You are signed out.');
      await page.goBack({ waitUntil: 'commit' });
      await page.waitForURL(`${site.url}/login`);
      expect(await page.content()).not.toContain('Alice');
      await page.goBack();
      expect(await page.content()).not.toContain('Alice');
    });

    it('refuses a wrong password, says so once, and takes the right one in the same form', async () => {
      const page = await open(await person(), `${site.url}/login`);
      await fillIn(page, 'wrong');
      await page.getByRole('alert').waitFor();
      expect(await page.getByRole('alert').textContent()).toBe('Invalid credentials');
      await page.reload();
      expect(await page.getByRole('alert').count()).toBe(0);
      await fillIn(page);
      await page.waitForURL(`${site.url}/dashboard`);
    });

    it('takes the forms of two tabs that were open before the session was', async () => {
      const visitor = await person();
      const [one, two] = [await open(visitor, site.url), await open(visitor, site.url)];
      for (const page of [one, two]) {
        await page.bringToFront();
        const answer = page.waitForResponse(`${site.url}/preferences`);
        await page.getByRole('button', { name: 'Dark' }).click();
        expect((await answer).status()).toBe(303);
        await page.locator('html[data-theme=dark]').waitFor();
      }
    });

    it('gives the browser cookies that scripts cannot read and other sites do not send', async () => {
      const visitor = await person();
      const page = await open(visitor, `${site.url}/login`);
      const kept = { domain: '127.0.0.1', path: '/', httpOnly: true, sameSite: 'Lax', secure: false };
      expect(await visitor.cookies()).toEqual([
        expect.objectContaining({ ...kept, name: 'session_id_visitor' }),
      ]);
      await logIn(page, site);
      const cookies = await visitor.cookies();
      expect(cookies).toEqual([expect.objectContaining({ ...kept, name: 'session_id' })]);
      expect(cookies[0].expires).toBeGreaterThan(Date.now() / 1000 + 86_000);
      expect(await page.evaluate('document.cookie')).toBe('');
    });
  });

  describe('the login sample over HTTPS', () => {
    let site: Site;
    beforeAll(async () => {
      site = await serveSample(adapter, AppModule, { https: true });
    });
    afterAll(() => site.close());

    it('gives the browser only Secure cookies, bound to this host', async () => {
      const visitor = await person();
      const page = await open(visitor, `${site.url}/login`);
      const kept = { domain: '127.0.0.1', path: '/', httpOnly: true, sameSite: 'Lax', secure: true };
      expect(await visitor.cookies()).toEqual([
        expect.objectContaining({ ...kept, name: '__Host-session_id_visitor' }),
      ]);
      await logIn(page, site);
      expect(await visitor.cookies()).toEqual([
        expect.objectContaining({ ...kept, name: '__Host-session_id' }),
      ]);
      await page.getByRole('button', { name: 'Sign out' }).click();
      await page.waitForURL(`${site.url}/`);
      const after = await visitor.cookies();
      expect(after.length).toBeGreaterThan(0);
      for (const { name, secure } of after) {
        expect(secure).toBe(true);
        expect(name).toMatch(/^__Host-/);
      }
    });
  });

  describe('the login sample under Referrer-Policy: no-referrer', () => {
    let site: Site;
    beforeAll(async () => {
      site = await serveSample(adapter, AppModule, { headers: { 'Referrer-Policy': 'no-referrer' } });
    });
    afterAll(() => site.close());

    it('works, though the browser calls the origin of its forms null', async () => {
      const page = await open(await person(), `${site.url}/login`);
      const posted = page.waitForRequest(`${site.url}/login`);
      await fillIn(page);
      const headers = await (await posted).allHeaders();
      expect(headers).toMatchObject({ origin: 'null', 'sec-fetch-site': 'same-origin' });
      expect(headers.referer).toBeUndefined();
      await page.waitForURL(`${site.url}/dashboard`);
      await page.getByRole('button', { name: 'Dark' }).click();
      await page.locator('html[data-theme=dark]').waitFor();
      await page.getByRole('button', { name: 'Sign out' }).click();
      await page.waitForURL(`${site.url}/`);
    });
  });
});
