import { Controller, Get } from '@nestjs/common';
import { Session, type SessionModuleOptions } from 'nest-session';
import {
  type Browser,
  onBothAdapters,
  type Served,
  serve,
  sessionCookies,
  setCookies,
} from '../support/app.js';

type Any = Session<any>;

let run: (session: Any) => unknown = () => {};

@Controller()
class LifecycleController {
  @Get('run')
  async run(@Session() session: Any) {
    return { result: (await run(session)) ?? null };
  }
}

onBothAdapters((adapter) => {
  let served: Served;
  let browser: Browser;

  async function start(options: Partial<SessionModuleOptions> = {}) {
    served = await serve(adapter, { controllers: [LifecycleController], options });
    browser = served.browser();
  }

  async function as(client: Browser, work: (session: Any) => unknown): Promise<any> {
    run = work;
    const response = await client.get('/run');
    expect(response.status).toBe(200);
    return response.body.result;
  }

  const data = (session: Any): unknown => session.data;

  beforeEach(() => start());
  afterEach(() => served.close());

  describe('regenerate', () => {
    it('keeps the data, changes the id and kills the old one', async () => {
      const oldId = await as(browser, (session) => session.set('a', 1).id);
      const before = browser.copy();
      served.store.drain();
      const newId = await as(browser, async (session) => {
        await session.regenerate();
        return session.id;
      });
      expect(newId).not.toBe(oldId);
      expect(served.store.drain()).toEqual(['load', 'rotate']);
      expect(await as(browser, data)).toEqual({ a: 1 });
      expect(await as(before, data)).toEqual({});
      expect(await served.sessions.find(oldId)).toBeUndefined();
      expect(await served.sessions.get(newId)).toMatchObject({ id: newId });
    });

    it('takes what this request has changed along, in one step', async () => {
      await as(browser, (session) => session.set('a', 1).set('b', 2) && null);
      served.store.drain();
      await as(browser, async (session) => {
        session.set('a', 2).delete('b');
        await session.regenerate();
      });
      expect(served.store.drain()).toEqual(['load', 'rotate']);
      expect(await as(browser, data)).toEqual({ a: 2 });
    });

    it('of a session that is not stored makes another id, and no record', async () => {
      const ids = await as(browser, async (session) => {
        const before = session.id;
        await session.regenerate();
        return [before, session.id];
      });
      expect(ids[0]).not.toBe(ids[1]);
      expect(browser.cookie).toBeUndefined();
      expect(served.store.drain()).toEqual([]);
    });

    it('does not make the session any younger', async () => {
      const created = await as(browser, (session) => session.set('a', 1).createdAt);
      served.clock.pass(3600);
      await as(browser, (session) => session.regenerate());
      expect(await as(browser, (session) => session.createdAt)).toBe(created);
    });
  });

  describe('logging in', () => {
    it('regenerates at once, so that an id known from before is worth nothing', async () => {
      await as(browser, (session) => void session.set('cart', [1]));
      const fixated = browser.copy();
      served.store.drain();
      await as(browser, (session) => session.login('alice', { name: 'Alice' }));
      expect(served.store.drain()).toEqual(['load', 'rotate']);
      expect(browser.cookie).not.toBe(fixated.cookie);
      expect(await as(browser, data)).toEqual({ cart: [1], userId: 'alice', name: 'Alice' });
      expect(await as(fixated, data)).toEqual({});
    });

    it('creates the session in the store when there is none, before login() resolves', async () => {
      const [info, isNew] = await as(browser, async (session) => {
        await session.login('alice');
        return [await served.sessions.find(session.id), session.isNew];
      });
      expect(info).toMatchObject({ userId: 'alice' });
      expect(isNew).toBe(false);
    });

    it('by setting the key is the same: the id changes with the commit', async () => {
      await as(browser, (session) => void session.set('cart', [1]));
      const fixated = browser.copy();
      served.store.drain();
      await as(browser, (session) => void session.set('userId', 'alice'));
      expect(served.store.drain()).toEqual(['load', 'rotate']);
      expect(await as(browser, data)).toEqual({ cart: [1], userId: 'alice' });
      expect(await as(fixated, data)).toEqual({});
    });

    it('as somebody else changes the id again', async () => {
      await as(browser, (session) => session.login('alice'));
      const alice = browser.copy();
      await as(browser, (session) => void session.set('userId', 'bob'));
      expect(await as(alice, data)).toEqual({});
      expect(await as(browser, (session) => session.userId)).toBe('bob');
    });

    it('as somebody else takes nothing of the other’s along, but what this request has set', async () => {
      await as(browser, async (session) => {
        await session.login('alice', { cart: ['a private thing'] });
        session.flash.set('notice', 'for alice');
      });
      await as(browser, async (session) => {
        session.flash.set('welcome', 'Hello bob');
        await session.login('bob', { name: 'Bob' });
      });
      expect(await as(browser, (session) => [session.data, session.flash.all()])).toEqual([
        { userId: 'bob', name: 'Bob' },
        { welcome: 'Hello bob' },
      ]);
    });

    it('as the same user again does not churn the other tabs', async () => {
      await as(browser, (session) => session.login('alice'));
      const tab = browser.copy();
      const response = await (async () => {
        run = (session) => session.login('alice', { name: 'Alice' });
        return browser.get('/run');
      })();
      expect(sessionCookies(response)).toEqual([]);
      expect(await as(tab, data)).toEqual({ userId: 'alice', name: 'Alice' });
      await as(browser, (session) => void session.set('userId', 'alice'));
      expect(await as(tab, (session) => session.userId)).toBe('alice');
    });

    it.each([undefined, null, '', {}])('as %j is refused with an error that says so', async (user) => {
      let caught: unknown;
      await as(browser, async (session) => {
        await session.login(user as never).catch((error: unknown) => (caught = error));
      });
      expect(caught).toMatchObject({
        code: 'E_SESSION_VALUE',
        message: expect.stringMatching(/takes the user's id/),
      });
      expect(served.store.drain()).toEqual([]);
    });

    it('under a key of one’s own', async () => {
      await served.close();
      await start({ auth: { key: 'account' as never } });
      await as(browser, (session) => void session.set('cart', [1]));
      const fixated = browser.copy();
      await as(browser, (session) => void session.set('account', 42));
      expect(await as(browser, (session) => session.userId)).toBe('42');
      expect(await as(fixated, data)).toEqual({});
    });
  });

  describe('a session that is nobody’s any more', () => {
    const WAYS: [string, (session: Any) => unknown][] = [
      ['delete', (session) => session.delete('userId')],
      ['set to null', (session) => session.set('userId', null)],
      ['set to an empty text', (session) => session.set('userId', '')],
      ['clear', (session) => session.clear()],
      ['pull', (session) => session.pull('userId')],
      ['regenerate', (session) => session.delete('userId') && session.regenerate()],
      ['save', (session) => session.delete('userId') && session.save()],
    ];

    it.each(WAYS)('gets a new id and keeps nothing of the user’s: %s', async (_, end) => {
      await as(browser, async (session) => {
        await session.login('alice', { cart: ['a private thing'], notes: { secret: 1 } });
        session.flash.set('notice', 'for alice');
      });
      const alice = browser.copy();
      const oldId = await as(browser, (session) => session.id);
      served.store.drain();
      await as(browser, async (session) => {
        session.get('notes').secret = 2;
        session.flash.set('notice', 'Signed out');
        await end(session);
        session.set('theme', 'dark');
      });
      expect(await as(alice, data)).toEqual({});
      expect(await served.sessions.find(oldId)).toBeUndefined();
      expect(await served.sessions.listByUser('alice')).toEqual([]);
      const [left, messages, id] = await as(browser, (session) => [
        session.data,
        session.flash.all(),
        session.id,
      ]);
      expect(left).toMatchObject({ theme: 'dark' });
      expect(Object.keys(left).filter((key) => !['theme', 'userId'].includes(key))).toEqual([]);
      expect([messages, id === oldId]).toEqual([{ notice: 'Signed out' }, false]);
      const info = await served.sessions.get(id);
      expect([info.userId, info.userAgent, info.ip]).toEqual([undefined, undefined, undefined]);
    });

    it('leaves the next user nothing, and does not answer before it is saved', async () => {
      await as(browser, (session) => session.login('alice', { cart: ['a private thing'] }));
      served.store.drain();
      await as(browser, (session) => void session.delete('userId'));
      expect(served.store.drain()).toEqual(['load', 'destroy']);
      expect(browser.cookie).toBeUndefined();
      await as(browser, (session) => session.login('bob'));
      expect(await as(browser, data)).toEqual({ userId: 'bob' });
    });

    it.each<[string, (session: Any) => unknown, object]>([
      [
        'is logged out',
        (session) => session.delete('userId') && session.set('theme', 'dark'),
        { theme: 'dark' },
      ],
      ['becomes another', (session) => session.login('bob'), { userId: 'bob' }],
      ['becomes another by its key', (session) => session.set('userId', 'bob'), { userId: 'bob' }],
    ])('takes nothing along that another request writes meanwhile: %s', async (_, change, left) => {
      await as(browser, (session) => session.login('alice'));
      const other = browser.copy();
      await as(browser, async (session) => {
        const mine = run;
        await as(other, (parallel) => void parallel.set('cart', ['of alice']));
        run = mine;
        await change(session);
      });
      expect(await as(browser, data)).toEqual(left);
    });

    it('is none where nobody was logged in: the id stays', async () => {
      await as(browser, (session) => void session.set('cart', [1]));
      const tab = browser.copy();
      served.store.drain();
      await as(browser, (session) => void session.set('userId', null));
      expect(served.store.drain()).toEqual(['load', 'commit']);
      expect(await as(tab, data)).toEqual({ cart: [1], userId: null });
    });
  });

  describe('logging out', () => {
    it.each(['logout', 'invalidate'] as const)(
      '%s ends the session in the store and in the browser, at once',
      async (end) => {
        await as(browser, (session) => session.login('alice'));
        const before = browser.copy();
        served.store.drain();
        await as(browser, async (session) => {
          await session[end]();
          return [session.userId, session.keys(), session.isNew];
        });
        expect(served.store.drain()).toEqual(['load', 'destroy']);
        expect(browser.cookie).toBeUndefined();
        expect(await as(before, data)).toEqual({});
      },
    );

    it('is followed by a new session with a new id when something is written', async () => {
      const oldId = await as(browser, (session) => session.set('a', 1).id);
      const before = browser.copy();
      run = async (session) => {
        await session.logout();
        session.flash.set('notice', 'Goodbye');
        return session.id;
      };
      const response = await browser.get('/run');
      expect(setCookies(response)).toHaveLength(1);
      expect(response.body.result).not.toBe(oldId);
      expect(await as(browser, (session) => [session.flash.get('notice'), session.data])).toEqual([
        'Goodbye',
        {},
      ]);
      expect(await as(before, data)).toEqual({});
    });

    it('of somebody without a session does nothing', async () => {
      run = (session) => session.logout();
      expect(setCookies(await browser.get('/run'))).toEqual([]);
      expect(served.store.drain()).toEqual([]);
    });

    it('drops what was written before it in the same request', async () => {
      await as(browser, (session) => void session.set('a', 1));
      await as(browser, async (session) => {
        session.set('b', 2);
        await session.logout();
      });
      expect(browser.cookie).toBeUndefined();
      expect(await served.sessions.count()).toBe(0);
    });
  });

  it('what a handler starts and does not await happens in its order, and before the answer', async () => {
    await as(browser, (session) => void session.set('a', 1));
    served.store.drain();
    const held = served.store.hold('commit');
    run = (session) => {
      void session.set('a', 2).save();
      void session.regenerate();
      void session.set('b', 3).save();
    };
    const answer = browser.begin('/run');
    await held.reached;
    expect(served.store.drain()).toEqual(['load', 'commit']);
    held.release();
    expect(sessionCookies(await answer)).toHaveLength(1);
    expect(served.store.drain()).toEqual(['rotate']);
    expect(await as(browser, data)).toEqual({ a: 2, b: 3 });
  });

  it('save stores at once, and what follows is stored at the end', async () => {
    const saved = await as(browser, async (session) => {
      session.set('a', 1);
      await session.save();
      const info = await served.sessions.find(session.id);
      session.set('b', 2);
      return info !== undefined;
    });
    expect(saved).toBe(true);
    expect(served.store.drain()).toEqual(['create', 'load', 'commit']);
    expect(await as(browser, data)).toEqual({ a: 1, b: 2 });
  });

  describe('the manager', () => {
    it('finds, gets and revokes by the public id', async () => {
      const id = await as(browser, async (session) => {
        await session.login('alice');
        return session.id;
      });
      const info = await served.sessions.get(id);
      expect(info).toEqual({
        id,
        userId: 'alice',
        ip: '127.0.0.1',
        userAgent: undefined,
        createdAt: new Date(served.clock.now),
        lastAccessedAt: new Date(served.clock.now),
        expiresAt: new Date(served.clock.now + 86_400_000),
      });
      expect(await served.sessions.revoke(id)).toBe(true);
      expect(await served.sessions.revoke(id)).toBe(false);
      expect(await served.sessions.find(id)).toBeUndefined();
      await expect(served.sessions.get(id)).rejects.toMatchObject({ code: 'E_SESSION_NOT_FOUND' });
      expect(await as(browser, data)).toEqual({});
    });

    it.each(['', '../../etc/passwd', 'x', 'A'.repeat(64), `${'a'.repeat(64)}\n`])(
      'knows at a glance that %j is no id, and asks no store',
      async (id) => {
        expect(await served.sessions.find(id)).toBeUndefined();
        expect(await served.sessions.revoke(id)).toBe(false);
        expect(served.store.drain()).toEqual([]);
      },
    );

    it('counts, clears and sweeps', async () => {
      for (const name of ['a', 'b', 'c']) {
        await as(served.browser(), (session) => void session.set('name', name));
      }
      expect(await served.sessions.count()).toBe(3);
      served.clock.pass(86_401);
      expect(await served.sessions.sweep()).toBe(3);
      expect(await served.sessions.sweep()).toBe(0);
      await as(served.browser(), (session) => void session.set('name', 'd'));
      await served.sessions.clear();
      expect(await served.sessions.count()).toBe(0);
    });
  });
});
