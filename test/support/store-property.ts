import * as fc from 'fast-check';
import type { SessionDelta, SessionRecord, SessionStore } from 'nest-session';
import { StoreModel } from './store-model.js';

const ids = ['a', 'b', 'c'].map((letter) => letter.repeat(64));

type Step =
  | { readonly do: 'create'; readonly id: string; readonly record: SessionRecord }
  | { readonly do: 'load' | 'destroy'; readonly id: string }
  | { readonly do: 'touch'; readonly id: string; readonly expiresAt: number }
  | { readonly do: 'commit'; readonly id: string; readonly delta: SessionDelta }
  | { readonly do: 'rotate'; readonly id: string; readonly newId: string; readonly delta: SessionDelta }
  | { readonly do: 'list'; readonly userId: string }
  | { readonly do: 'count' | 'sweep' }
  | { readonly do: 'wait'; readonly milliseconds: number };

const id = fc.constantFrom(...ids);
const field = fc.oneof(
  fc.constantFrom('x', 'y', '__proto__', 'constructor', ''),
  fc.string({ maxLength: 3 }),
);
const fields = fc
  .array(fc.tuple(field, fc.string({ maxLength: 4 })), { maxLength: 4 })
  .map((pairs) => new Map(pairs));
const instant = fc.integer({ min: 0, max: 200 });
const user = fc.option(fc.constantFrom('alice', 'bob'), { nil: undefined });

const record: fc.Arbitrary<SessionRecord> = fc.record({
  createdAt: instant,
  lastAccessedAt: instant,
  expiresAt: instant,
  userId: user,
  fields,
});

const delta: fc.Arbitrary<SessionDelta> = fc
  .record({
    set: fields,
    removed: fc.array(field, { maxLength: 3 }),
    header: fc.record(
      { lastAccessedAt: instant, expiresAt: instant, userId: fc.constantFrom('alice', 'bob', null) },
      { requiredKeys: [] },
    ),
  })
  // A field is set or deleted, never both.
  .map(({ set, removed, header }) => ({ set, delete: removed.filter((name) => !set.has(name)), header }));

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('create' as const), id, record }),
  fc.record({ do: fc.constantFrom('load' as const, 'destroy' as const), id }),
  fc.record({ do: fc.constant('touch' as const), id, expiresAt: instant }),
  fc.record({ do: fc.constant('commit' as const), id, delta }),
  // To an id that was never used: ids are 256 random bits.
  fc.record({ do: fc.constant('rotate' as const), id, newId: fc.uuid(), delta }),
  fc.record({ do: fc.constant('list' as const), userId: fc.constantFrom('alice', 'bob') }),
  fc.record({ do: fc.constantFrom('count' as const, 'sweep' as const) }),
  fc.record({ do: fc.constant('wait' as const), milliseconds: fc.integer({ min: 1, max: 10 }) }),
);

/** What a step answers, in a form that can be compared. */
async function answer(store: SessionStore | StoreModel, one: Step): Promise<unknown> {
  switch (one.do) {
    case 'create':
      return store.create(one.id, { ...one.record, fields: new Map(one.record.fields) });
    case 'load': {
      const loaded = await store.load(one.id);
      return loaded && { ...loaded, fields: [...loaded.fields].toSorted() };
    }
    case 'destroy':
      return store.destroy(one.id);
    case 'touch':
      return store.touch(one.id, one.expiresAt);
    case 'commit':
      return store.commit(one.id, one.delta);
    case 'rotate':
      return store.rotate(one.id, one.newId, one.delta);
    case 'list': {
      const listed = await store.listByUser?.(one.userId);
      return listed && [...listed.keys()].toSorted();
    }
    case 'count':
      return store.count?.();
    default:
      return undefined;
  }
}

/**
 * Whatever is done to the store, it answers as the model does: random steps, each followed by a look at everything.
 * A store that cannot list or count is not asked to.
 */
export async function answersAsTheModel(
  newStore: (clock: () => number) => SessionStore | Promise<SessionStore>,
  runs = 300,
): Promise<void> {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }), async (steps) => {
      const model = new StoreModel();
      const known = new Set(ids);
      const store = await newStore(() => model.now);
      try {
        for (const one of [...steps, { do: 'count' } as const]) {
          if (one.do === 'wait') model.now += one.milliseconds;
          if (one.do === 'sweep') await store.sweep?.();
          if ((one.do === 'list' && !store.listByUser) || (one.do === 'count' && !store.count)) continue;
          expect([one, await answer(store, one)]).toEqual([one, await answer(model, one)]);
          // And whatever there is, is what there should be.
          if ('newId' in one) known.add(one.newId);
          for (const each of known) {
            const look = { do: 'load', id: each } as const;
            expect([one, await answer(store, look)]).toEqual([one, await answer(model, look)]);
          }
        }
      } finally {
        await store.close?.();
      }
    }),
    { numRuns: runs },
  );
}
