import type { INestApplication } from '@nestjs/common';
import { AppModule } from '../../sample/custom-store/app.module.js';
import { Browser, createApp, onBothAdapters } from '../support/app.js';

// eslint-disable-next-line import/no-unassigned-import -- the sample's own test, run as one of ours
import '../../sample/custom-store/key-value.store.spec.js';

onBothAdapters((adapter) => {
  describe('the sample with a store of its own', () => {
    let app: INestApplication;
    let browser: Browser;
    beforeAll(async () => {
      app = await createApp(adapter, AppModule);
      await app.listen(0, '127.0.0.1');
      browser = new Browser(await app.getUrl());
    });
    afterAll(() => app?.close());

    it('keeps its sessions there', async () => {
      for (const visits of [1, 2, 3]) expect((await browser.get('/')).body).toEqual({ visits });
      browser.cookies.clear();
      expect((await browser.get('/')).body).toEqual({ visits: 1 });
    });
  });
});
