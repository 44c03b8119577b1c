import type { Page } from 'playwright-core';
import { AppModule } from '../../sample/login/app.module.js';
import { onBothAdapters } from '../support/app.js';
import { type Attacks, fetches, form, withPageToken } from './support/attacks.js';
import { fillIn, open, person, withChromium } from './support/browser.js';
import { type Attacker, serveAttacker, serveSample, type Site } from './support/sites.js';

withChromium();

const ways: Attacks = [...form, ...fetches, ...withPageToken];

/** What the victim finds on returning to our page. */
async function state(page: Page, site: Site) {
  await page.goto(`${site.url}/`);
  const theme = await page.locator('html').getAttribute('data-theme');
  return { loggedIn: (await page.getByText('You are signed in').count()) === 1, theme };
}

/** A user's tab with our site in it, and another for the attacker's. */
async function victimOf(site: Site): Promise<[ours: Page, lure: Page]> {
  const victim = await person();
  const page = await open(victim, `${site.url}/login`);
  await fillIn(page);
  await page.waitForURL(`${site.url}/dashboard`);
  return [page, await victim.newPage()];
}

/**
 * `proven`: which attacks would succeed but for CsrfGuard. The others SameSite keeps away; and in private windows, such
 * as these tests use, Chromium sends no cookies with fetches to another site, whatever their SameSite.
 */
const attackers: {
  from: string;
  relation: 'sameSite' | 'crossSite';
  proven: Attacks;
  setup: Parameters<typeof serveSample>[2];
}[] = [
  { from: 'another port of our host', relation: 'sameSite', proven: ways, setup: {} },
  { from: 'another host', relation: 'crossSite', proven: [], setup: {} },
  {
    from: 'another host, when cookies are SameSite=None',
    relation: 'crossSite',
    proven: form,
    setup: { https: true, cookie: { sameSite: 'none' } },
  },
];

onBothAdapters((adapter) => {
  describe.each(attackers)('an attacker on $from', ({ relation, proven, setup }) => {
    let guarded: Site;
    let unguarded: Site;
    let attacker: Attacker;

    // CORS that allows everything makes it as easy for the attacker as it can be.
    beforeAll(async () => {
      guarded = await serveSample(adapter, AppModule, { ...setup, cors: true });
      unguarded = await serveSample(adapter, AppModule, { ...setup, cors: true, unguarded: true });
      attacker = await serveAttacker(setup);
    });
    afterAll(() => Promise.all([guarded, unguarded, attacker].map((server) => server?.close())));

    const preferences = ({ url }: Site) => ({
      ...logout({ url }),
      to: `${url}/preferences`,
      fields: { theme: 'dark' },
    });
    const logout = ({ url }: Pick<Site, 'url'>) => ({ to: `${url}/logout`, fields: {}, tokenIn: `${url}/` });
    const login = ({ url }: Site) => ({
      to: `${url}/login`,
      fields: { username: 'alice', password: 'wonderland' },
    });

    if (proven.length > 0) {
      it.each(proven)('would succeed by %s', async (_, attack) => {
        const [page, lure] = await victimOf(unguarded);
        await attack(lure, attacker[relation], preferences(unguarded));
        expect(await state(page, unguarded)).toEqual({ loggedIn: true, theme: 'dark' });
        await attack(lure, attacker[relation], logout(unguarded));
        expect(await state(page, unguarded)).toEqual({ loggedIn: false, theme: 'light' });
      });
    }

    it('fails to change the theme and to log the victim out, by whatever way', async () => {
      const [page, lure] = await victimOf(guarded);
      for (const [way, attack] of ways) {
        const statuses = [
          await attack(lure, attacker[relation], preferences(guarded)),
          await attack(lure, attacker[relation], logout(guarded)),
        ];
        const after = await state(page, guarded);
        expect({ way, statuses, after }).toEqual({
          way,
          statuses: [403, 403],
          after: { loggedIn: true, theme: 'light' },
        });
      }
    });

    // SameSite does not help here: no cookie is needed, and the one that comes is kept.
    it('fails to log the victim in as the attacker, as a form would', async () => {
      const [[, attack]] = form;
      for (const [site, loggedIn] of [
        [unguarded, true],
        [guarded, false],
      ] as const) {
        const page = await open(await person(), `${site.url}/login`);
        await attack(page, attacker[relation], login(site));
        expect(await state(page, site)).toEqual({ loggedIn, theme: 'light' });
      }
    });
  });
});
