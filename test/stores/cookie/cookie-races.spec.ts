import { CookieStore, MemoryStore } from 'nest-session';
import { KeyRing } from '../../../lib/crypto/key-ring.js';
import { resolveOptions } from '../../../lib/options/resolved-options.js';
import { TravelInUse } from '../../../lib/session/travel-in-use.js';
import { Browser, Clock, onBothAdapters, SECRET, sessionCookies, setCookies } from '../../support/app.js';
import {
  ANONYMOUS,
  closeSites,
  filler,
  gates,
  headerOf,
  SECRETS,
  type Site,
  start,
} from '../../support/cookie-site.js';
import { HeldStore } from '../../support/held-store.js';

afterEach(closeSites);

onBothAdapters((adapter) => {
  const [newer, older] = SECRETS;

  describe('parallel requests of one browser on one process', () => {
    let site: Site;
    let browser: Browser;

    beforeEach(async () => {
      site = await start(adapter);
      browser = site.browser();
      await browser.get('/set?first=1');
    });

    it.each([
      ['in the order in which they came', ['a', 'b']],
      ['in the other order', ['b', 'a']],
    ])('that answer %s: the last has what both wrote', async (_, order) => {
      const held = { a: gates.hold('a'), b: gates.hold('b') };
      const twins = { a: browser.copy(), b: browser.copy() };
      const answers = { a: twins.a.begin('/set?gate=a&a=1'), b: twins.b.begin('/set?gate=b&b=1') };
      await Promise.all([held.a.reached, held.b.reached]);
      for (const name of order as ('a' | 'b')[]) {
        held[name].release();
        await answers[name];
      }
      const last = twins[order[1] as 'a' | 'b'];
      const elsewhere = await start(adapter, { clock: site.clock });
      expect((await elsewhere.look(last.cookie as string)).data).toEqual({ first: '1', a: '1', b: '1' });
    });

    it('and a third that comes within ten seconds with the cookie from before', async () => {
      const before = browser.copy();
      const held = gates.hold('a');
      const answer = browser.begin('/set?gate=a&a=1');
      await held.reached;
      await browser.copy().get('/set?b=1');
      held.release();
      await answer;
      site.clock.now += 9_999;
      expect((await before.copy().get('/look')).body.data).toEqual({ first: '1', a: '1', b: '1' });
      await before.get('/set?c=1');
      const elsewhere = await start(adapter, { clock: site.clock });
      expect((await elsewhere.look(before.cookie as string)).data).toEqual({
        first: '1',
        a: '1',
        b: '1',
        c: '1',
      });
    });

    it('but not for one that comes later: a cookie is then what it says', async () => {
      const before = browser.copy();
      await browser.get('/set?a=1');
      site.clock.now += 10_000;
      expect((await before.get('/look')).body.data).toEqual({ first: '1' });
    });

    it('of which one deletes a key', async () => {
      const held = gates.hold('a');
      const slow = browser.copy();
      const answer = slow.begin('/set?gate=a&a=1');
      await held.reached;
      await browser.get('/delete?key=first');
      held.release();
      await answer;
      const elsewhere = await start(adapter, { clock: site.clock });
      expect((await elsewhere.look(slow.cookie as string)).data).toEqual({ a: '1' });
    });

    it.each([
      ['a second later', 1],
      ['in the same millisecond', 0],
    ])('a newer cookie, from another process, counts more than what is held: %s', async (_, seconds) => {
      const elsewhere = await start(adapter, { clock: site.clock });
      site.clock.pass(seconds);
      const there = elsewhere.browserWith(browser.cookies);
      await there.get('/set?b=1');
      expect((await site.look(there.cookie as string)).data).toEqual({ first: '1', b: '1' });
    });

    it('of two that log in at once, one gets the session, and the other a session of its own', async () => {
      const twins = [browser.copy(), browser.copy()];
      await Promise.all(twins.map((twin) => twin.post('/login', { as: 'alice' })));
      const seen = await Promise.all(twins.map((twin) => site.look(twin.cookie as string)));
      expect(seen.map(({ data }) => data.userId)).toEqual(['alice', 'alice']);
      expect(seen.filter(({ data }) => data.first === '1')).toHaveLength(1);
      expect(seen[0].id).not.toBe(seen[1].id);
    });
  });

  describe('a request under way', () => {
    let clock: Clock;
    let revocations: MemoryStore;
    let one: Site;
    let two: Site;
    let browser: Browser;

    beforeEach(async () => {
      clock = new Clock();
      revocations = new MemoryStore({ clock: clock.read });
      one = await start(adapter, { clock, store: { revocations } });
      two = await start(adapter, { clock, store: { revocations } });
      browser = one.browser();
      await browser.post('/login', { as: 'alice' });
    });

    it.each([
      ['the same process', false, 0],
      ['another process', true, 0],
      ['the same process, a minute later', false, 60],
      ['another process, a minute later', true, 60],
      ['the same process, an hour later', false, 3600],
    ])('during a logout in %s cannot bring the session back', async (_, elsewhere, seconds) => {
      const slow = browser.copy();
      const held = gates.hold('a');
      const answer = slow.begin('/set?gate=a&a=1');
      await held.reached;
      await (elsewhere ? two.browserWith(browser.cookies) : browser.copy()).post('/logout');
      clock.pass(seconds);
      held.release();
      expect(setCookies(await answer)).toEqual([]);
      for (const site of [one, two]) {
        for (const cookies of [slow.cookies, browser.cookies]) {
          expect(await site.look(headerOf(cookies))).toEqual(ANONYMOUS);
        }
      }
    });

    it('during a logout of the same process cannot bring it back without revocations either', async () => {
      const site = await start(adapter, { clock });
      const visitor = site.browser();
      await visitor.post('/login', { as: 'alice' });
      const slow = visitor.copy();
      const held = gates.hold('a');
      const answer = slow.begin('/set?gate=a&a=1');
      await held.reached;
      await visitor.post('/logout');
      clock.pass(60);
      held.release();
      expect(setCookies(await answer)).toEqual([]);
    });

    it('while the session gets a new id cannot bring the old one back', async () => {
      const slow = browser.copy();
      const held = gates.hold('a');
      const answer = slow.begin('/set?gate=a&a=1');
      await held.reached;
      await browser.post('/regenerate');
      held.release();
      expect(setCookies(await answer)).toEqual([]);
      expect((await browser.get('/look')).body.data).toEqual({ userId: 'alice' });
      expect((await slow.get('/look')).body).toEqual(ANONYMOUS);
    });

    it('that saves while the session gets a new id is carried over to it', async () => {
      const slow = new HeldStore(revocations, clock.read);
      const site = await start(adapter, { clock, store: { revocations: slow } });
      const visitor = site.browserWith(browser.cookies);
      const twin = visitor.copy();
      const revoking = slow.hold('create');
      const answer = Promise.resolve(visitor.post('/regenerate'));
      await revoking.reached;
      await twin.get('/set?a=1');
      revoking.release();
      await answer;
      expect((await two.look(visitor.cookie as string)).data).toEqual({ userId: 'alice', a: '1' });
    });

    it('that takes a minute still saves', async () => {
      const held = gates.hold('a');
      const answer = browser.begin('/set?gate=a&a=1');
      await held.reached;
      clock.pass(60);
      held.release();
      expect(sessionCookies(await answer)).toHaveLength(1);
      expect((await two.look(browser.cookie as string)).data).toEqual({ userId: 'alice', a: '1' });
    });

    it('that takes a minute after it has logged in still saves', async () => {
      const held = gates.hold('a');
      const answer = Promise.resolve(browser.post('/login', { as: 'bob', gate: 'a', then: 'what' }));
      await held.reached;
      clock.pass(60);
      held.release();
      expect(sessionCookies(await answer)).toHaveLength(1);
      expect((await two.look(browser.cookie as string)).data).toEqual({ userId: 'bob', then: 'what' });
    });

    it.each([
      ['a login', (visitor: Browser) => visitor.post('/login', { as: 'carol', gate: 'a', then: 'what' })],
      ['a save', (visitor: Browser) => visitor.get('/save?gate=a&userId=carol&then=what')],
    ])('that takes a minute after %s of a visitor still saves', async (_, send) => {
      const visitor = one.browser();
      const held = gates.hold('a');
      const answer = Promise.resolve(send(visitor));
      await held.reached;
      clock.pass(60);
      held.release();
      expect(sessionCookies(await answer)).toHaveLength(1);
      expect((await two.look(visitor.cookie as string)).data).toEqual({ userId: 'carol', then: 'what' });
    });

    it('that takes until the session has expired finds it gone', async () => {
      const held = gates.hold('a');
      const answer = browser.begin('/set?gate=a&a=1');
      await held.reached;
      clock.pass(86_400);
      held.release();
      expect(setCookies(await answer)).toEqual([]);
    });
  });

  it('a session that is only sealed anew, by a handler slower than ten seconds, is still there', async () => {
    const before = await start(adapter, { options: { secret: older } });
    const { clock } = before;
    const browser = before.browser();
    await browser.post('/login', { as: 'alice' });
    const both = await start(adapter, { clock, options: { secret: [newer, older] } });
    const moving = both.browserWith(browser.cookies);
    const held = gates.hold('a');
    const answer = moving.begin('/read?gate=a');
    await held.reached;
    clock.pass(60);
    held.release();
    expect(sessionCookies(await answer)).toHaveLength(1);
    clock.pass(60);
    expect((await moving.get('/look')).body.data).toEqual({ userId: 'alice' });
  });

  describe('the ten seconds may end while the revocations are asked:', () => {
    let clock: Clock;
    let revocations: HeldStore;
    let site: Site;
    let browser: Browser;

    beforeEach(async () => {
      clock = new Clock();
      revocations = new HeldStore(undefined, clock.read);
      site = await start(adapter, { clock, store: { revocations } });
      browser = site.browser();
      await browser.post('/login', { as: 'alice' });
    });

    it('the session is found', async () => {
      clock.now += 9_999;
      const asked = revocations.hold('load');
      const answer = browser.begin('/look');
      await asked.reached;
      clock.now += 1;
      asked.release();
      expect((await answer).body.data).toEqual({ userId: 'alice' });
    });

    it('and saved', async () => {
      const held = gates.hold('a');
      const answer = browser.begin('/set?gate=a&a=1');
      await held.reached;
      clock.now += 9_999;
      const asked = revocations.hold('load');
      held.release();
      await asked.reached;
      clock.now += 1;
      asked.release();
      expect(sessionCookies(await answer)).toHaveLength(1);
      expect((await browser.get('/look')).body.data).toEqual({ userId: 'alice', a: '1' });
    });
  });

  describe('an answer that comes after the end of its session does not bring its cookie back:', () => {
    it('having saved before a logout', async () => {
      const site = await start(adapter);
      const browser = site.browser();
      await browser.post('/login', { as: 'alice' });
      const held = gates.hold('a');
      const answer = browser.copy().begin('/save?gate=a&a=1');
      await held.reached;
      await browser.post('/logout');
      held.release();
      expect(setCookies(await answer)).toEqual([]);
    });

    it('having saved before a login, whose cookie it would replace', async () => {
      const site = await start(adapter, { store: { revocations: new MemoryStore() } });
      const browser = site.browser();
      await browser.get('/set?first=1');
      const held = gates.hold('a');
      const answer = browser.begin('/save?gate=a&a=1');
      await held.reached;
      const twin = browser.copy();
      await twin.post('/login', { as: 'alice' });
      for (const [name, value] of twin.cookies) browser.cookies.set(name, value);
      held.release();
      expect(setCookies(await answer)).toEqual([]);
      expect((await browser.get('/look')).body.data).toMatchObject({ userId: 'alice' });
    });

    it('having had an older secret to replace', async () => {
      const before = await start(adapter, { options: { secret: older } });
      const browser = before.browser();
      await browser.post('/login', { as: 'alice' });
      const site = await start(adapter, { clock: before.clock, options: { secret: [newer, older] } });
      const moving = site.browserWith(browser.cookies);
      const held = gates.hold('a');
      const answer = moving.copy().begin('/read?gate=a');
      await held.reached;
      await moving.post('/logout');
      held.release();
      expect(setCookies(await answer)).toEqual([]);
    });
  });
});

it('a rotation that a commit makes too large leaves the session where it was', async () => {
  const clock = new Clock();
  const revocations = new HeldStore(undefined, clock.read);
  const store = new CookieStore({ revocations });
  const options = resolveOptions({ secret: SECRET, store, clock: clock.read });
  new TravelInUse(options, new KeyRing(options.secrets)).use(store);
  const [id, newId] = ['a'.repeat(64), 'b'.repeat(64)];
  const times = { createdAt: clock.now, lastAccessedAt: clock.now, expiresAt: clock.now + 86_400_000 };
  const set = (key: string, length: number) => ({
    set: new Map([[key, filler(length)]]),
    delete: [],
    header: {},
  });
  await store.create(id, { ...times, fields: new Map([['data:a', filler(1100)]]) });
  const revoking = revocations.hold('create');
  const rotation = store.rotate(id, newId, set('data:b', 1100));
  await revoking.reached;
  expect(await store.commit(id, set('data:c', 1100))).toBe('saved');
  revoking.release();
  await Promise.allSettled([rotation]);
  const found = (await store.load(id)) ?? (await store.load(newId));
  expect(found?.fields.get('data:a')).toBe(filler(1100));
});
