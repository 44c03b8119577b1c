import { type INestApplication, type ModuleMetadata, type Type } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { writeFile } from 'node:fs/promises';
import { FileStore, SessionManager } from 'nest-session';
import { readSession, sessionCookie } from 'nest-session/testing';
import request from 'supertest';
import { type Adapter, Browser, createApp, onBothAdapters, type Served, serve } from '../support/app.js';
import { Snippets } from '../support/snippets.js';
import { removeTemporary, temporaryFolder } from '../support/temporary.js';

let snippets: Snippets;
const running: { close(): Promise<unknown> }[] = [];

beforeAll(async () => void (snippets = await Snippets.load()));
afterAll(async () => {
  await snippets.remove();
  await removeTemporary();
});
afterEach(async () => {
  for (const app of running.splice(0)) await app.close();
});

/** The controllers of snippets, in an application of the tests. */
async function served(
  adapter: Adapter,
  controllers: Type[],
  more: Partial<ModuleMetadata> = {},
): Promise<Served> {
  const app = await serve(adapter, { controllers, imports: more.imports, providers: more.providers as [] });
  running.push(app);
  return app;
}

/** A root module of a snippet, listening. */
async function listening(adapter: Adapter, root: Type): Promise<{ app: INestApplication; browser: Browser }> {
  const app = await createApp(adapter, root);
  running.push(app);
  await app.listen(0, '127.0.0.1');
  return { app, browser: new Browser(await app.getUrl()) };
}

/** `Users` of a snippet, of whom one is known. */
const known = (users: Type) => ({
  provide: users,
  useValue: {
    authenticate: async (name: string, password: string) =>
      name === 'alice' && password === 'wonderland' ? { id: 'alice' } : undefined,
  },
});
const alice = { name: 'alice', password: 'wonderland' };

onBothAdapters((adapter) => {
  describe('README.md', () => {
    it('the first program does what the page says of it', async () => {
      const { AppModule } = await snippets.module('README.md', 'AppModule');
      const { browser } = await listening(adapter, AppModule);
      const empty = await browser.get('/cart');
      expect([empty.body, empty.headers['set-cookie']]).toEqual([{}, undefined]);
      const added = await browser.post('/cart/pens');
      expect([added.status, added.headers.location]).toEqual([303, '/cart']);
      expect((await browser.get('/cart')).body).toEqual({ cart: ['pen'], notice: 'A pen is in your cart.' });
      expect((await browser.get('/cart')).body).toEqual({ cart: ['pen'] });
    });

    it('a login, a private page and a logout; and a test of it', async () => {
      const { AuthController, Users } = await snippets.module('README.md', 'AuthController');
      const { accountOfAlice } = await snippets.module('README.md', 'accountOfAlice');
      const app = await served(adapter, [AuthController], { providers: [known(Users)] });
      const browser = app.browser();
      expect((await browser.get('/account')).status).toBe(401);
      expect((await browser.post('/login', { ...alice, password: 'no' })).status).toBe(401);
      expect((await browser.post('/login', alice)).headers.location).toBe('/account');
      expect((await browser.get('/account')).body).toEqual({ userId: 'alice' });
      await browser.post('/logout');
      expect((await browser.get('/account')).status).toBe(401);

      expect(await accountOfAlice(app.app)).toEqual({ body: { userId: 'alice' }, userId: 'alice' });
    });

    it('CSRF protection on everything', async () => {
      const { ProtectedModule } = await snippets.module('README.md', 'ProtectedModule');
      const app = await served(adapter, [], { imports: [ProtectedModule] });
      const browser = app.browser();
      expect((await browser.post('/newsletter')).status).toBe(403);
      const page = (await browser.get('/newsletter')).text;
      const [, field, token] = /name="([^"]+)" value="([^"]+)"/.exec(page) as RegExpExecArray;
      expect((await browser.post('/newsletter', { [field]: token })).status).toBe(303);
    });

    it('settings in .env', async () => {
      const folder = await temporaryFolder();
      const [before, environment] = [process.cwd(), { ...process.env }];
      await writeFile(`${folder}/.env`, snippets.settings('README.md'));
      process.chdir(folder);
      try {
        const { ConfiguredModule } = await snippets.module('README.md', 'ConfiguredModule');
        const { app } = await listening(adapter, ConfiguredModule);
        expect(app.get(SessionManager).store).toBeInstanceOf(FileStore);
      } finally {
        process.chdir(before);
        process.env = environment;
      }
    });
  });

  describe('docs/', () => {
    it('guide.md: a value of the session', async () => {
      const { PreferencesController } = await snippets.module('docs/guide.md', 'PreferencesController');
      const browser = (await served(adapter, [PreferencesController])).browser();
      await browser.post('/preferences', { theme: 'dark' });
      expect((await browser.get('/preferences')).body).toEqual({ theme: 'dark' });
    });

    it('guide.md: flash messages', async () => {
      const { ArticlesController } = await snippets.module('docs/guide.md', 'ArticlesController');
      const browser = (await served(adapter, [ArticlesController])).browser();
      await browser.post('/articles');
      expect((await browser.get('/articles')).body.messages.notice.text).toBe('Saved.');
      expect((await browser.get('/articles')).body.messages).toEqual({});
    });

    it('authentication.md: the page that was asked for, after the login', async () => {
      const { AuthController, Users } = await snippets.module('docs/authentication.md', 'AuthController');
      const app = await serve(adapter, {
        controllers: [AuthController],
        providers: [known(Users)],
        options: { auth: { loginPath: '/login' } },
      });
      running.push(app);
      const browser = app.browser();
      expect((await browser.get('/account')).headers.location).toBe('/login');
      expect((await browser.post('/login', alice)).headers.location).toBe('/account');
      await browser.post('/logout');
      expect((await browser.get('/account')).status).toBe(302);
    });

    it('authentication.md: the devices of a user', async () => {
      const { DevicesController } = await snippets.module('docs/authentication.md', 'DevicesController');
      const { AuthController, Users } = await snippets.module('README.md', 'AuthController');
      const { ProfileController } = await snippets.module('docs/csrf.md', 'ProfileController');
      const app = await served(adapter, [DevicesController, AuthController, ProfileController], {
        providers: [known(Users)],
      });
      const [here, elsewhere] = [app.browser(), app.browser()];
      for (const browser of [here, elsewhere]) await browser.post('/login', alice);
      const token = await tokenFor(here);
      const devices = (await here.get('/devices')).body as { id: string; thisDevice: boolean }[];
      expect(devices.map(({ thisDevice }) => thisDevice).toSorted()).toEqual([false, true]);
      expect((await here.post('/devices/revoke-others')).status).toBe(403);
      expect((await here.post('/devices/revoke-others', { _csrf: token })).status).toBe(204);
      expect((await elsewhere.get('/account')).status).toBe(401);
      expect((await here.get('/account')).status).toBe(200);
    });

    it('authentication.md: a roles guard', async () => {
      const { Roles, RolesGuard } = await snippets.module('docs/authentication.md', 'RolesGuard');
      const { PreferencesController } = await snippets.module('docs/guide.md', 'PreferencesController');
      Roles('admin')(PreferencesController.prototype.show);
      const providers = [{ provide: APP_GUARD, useClass: RolesGuard }];
      const app = await served(adapter, [PreferencesController], { providers });
      expect((await app.browser().get('/preferences')).status).toBe(403);
      const cookie = await sessionCookie(app.app, { roles: ['admin'] } as object);
      expect((await request(app.url).get('/preferences').set('Cookie', cookie)).status).toBe(200);
    });

    it('csrf.md: a form', async () => {
      const { ProfileController } = await snippets.module('docs/csrf.md', 'ProfileController');
      const browser = (await served(adapter, [ProfileController])).browser();
      const token = await tokenFor(browser);
      expect((await browser.post('/profile', { name: 'Alice' })).body.message).toBe('Missing CSRF token');
      expect((await browser.post('/profile', { name: 'Alice', _csrf: token })).status).toBe(303);
    });
  });
});

describe('docs/guide.md: a stream', () => {
  it('saves before its first line, in between, and at its end', async () => {
    const { ExportController } = await snippets.module('docs/guide.md', 'ExportController');
    const app = await served('express', [ExportController]);
    const browser = app.browser();
    expect((await browser.get('/export')).text.split('\n')).toHaveLength(1001);
    expect((await readSession(app.app, browser.cookie as string))?.data).toEqual({
      exports: 1,
      exportedTo: 900,
    });
  });
});

async function tokenFor(browser: Browser): Promise<string> {
  return (/value="([^"]+)"/.exec((await browser.get('/profile')).text) as RegExpExecArray)[1];
}
