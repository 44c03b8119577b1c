import type { Page } from 'playwright-core';
import { AppModule } from '../../sample/login/app.module.js';
import { onBothAdapters } from '../support/app.js';
import { fillIn, open, person, withChromium } from './support/browser.js';
import { serveSample, type Site } from './support/sites.js';

withChromium();

onBothAdapters((adapter) => {
  describe('the devices of the login sample', () => {
    let site: Site;
    beforeEach(async () => {
      site = await serveSample(adapter, AppModule);
    });
    afterEach(() => site.close());

    /** The dashboard of somebody who has just signed in as alice. */
    async function signedIn(): Promise<Page> {
      const page = await open(await person(), `${site.url}/login`);
      await fillIn(page);
      await page.waitForURL(`${site.url}/dashboard`);
      return page;
    }

    async function toDevices(page: Page): Promise<void> {
      await page.getByRole('link', { name: 'Devices' }).click();
      await page.waitForURL(`${site.url}/devices`);
    }

    const devicesOn = (page: Page) => page.getByRole('main').getByRole('list').getByRole('listitem');

    it('are all shown, and another one is signed out with its next click', async () => {
      const other = await signedIn();
      const page = await signedIn();
      await toDevices(page);
      const devices = devicesOn(page);
      expect(await devices.count()).toBe(2);
      expect(await devices.getByRole('heading').allInnerTexts()).toEqual([
        expect.stringMatching(/^Chrome on \w+\s+This device$/),
        expect.stringMatching(/^Chrome on \w+$/),
      ]);
      expect(await devices.getByText('127.0.0.1').count()).toBe(2);
      const userAgent = await page.evaluate('navigator.userAgent');
      expect(await devices.nth(1).getByTitle(String(userAgent)).count()).toBe(1);

      await devices.nth(1).getByRole('button', { name: 'Sign out' }).click();
      await page.getByRole('status').waitFor();
      expect(page.url()).toBe(`${site.url}/devices`);
      expect(await page.getByRole('status').textContent()).toMatch(/^Chrome on \w+ is signed out\.$/);
      expect(await devices.count()).toBe(1);
      expect(await devices.getByText('This device').count()).toBe(1);

      await other.getByRole('link', { name: 'Devices' }).click();
      await other.waitForURL(`${site.url}/login`);
      expect(await other.getByRole('alert').textContent()).toBe('Please login to continue');
      expect(await other.content()).not.toContain('Alice');
    });

    it('are all signed out but this one, and then this one', async () => {
      const others = [await signedIn(), await signedIn()];
      const page = await signedIn();
      await toDevices(page);
      expect(await devicesOn(page).count()).toBe(3);
      await page.getByRole('button', { name: 'Sign out all other devices' }).click();
      await page.getByRole('status').waitFor();
      expect(await page.getByRole('status').textContent()).toBe('Other devices signed out: 2.');
      expect(await page.getByRole('button', { name: 'Sign out all other devices' }).count()).toBe(0);
      for (const other of others) {
        await other.reload();
        expect(other.url()).toBe(`${site.url}/login`);
      }

      await devicesOn(page).getByRole('button', { name: 'Sign out' }).click();
      await page.waitForURL(`${site.url}/`);
      expect(await page.getByRole('status').textContent()).toBe('You are signed out.');
      await page.getByRole('link', { name: 'Try the dashboard' }).click();
      await page.waitForURL(`${site.url}/login`);
    });

    it('tell a screen reader which one a button signs out, and fit on a phone', async () => {
      await signedIn();
      const page = await signedIn();
      await toDevices(page);
      for (const device of await devicesOn(page).all()) {
        const heading = await device.getByRole('heading').getAttribute('id');
        const button = device.getByRole('button', { name: 'Sign out' });
        expect(await button.getAttribute('aria-describedby')).toBe(heading);
      }
      await page.setViewportSize({ width: 320, height: 640 });
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(320);
    });
  });
});
