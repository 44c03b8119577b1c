import { adapters } from '../support/app.js';
import { runModel } from '../support/response-model.js';

const ways = adapters.flatMap((adapter) => [
  { adapter, fastPath: true, name: `${adapter}, with the fast path` },
  { adapter, fastPath: false, name: `${adapter}, with the interceptor alone` },
]);

/** On the commits before, each of these stopped the server, lost a write or tore an answer. */
const CASES = [
  // A client hangs up while its session is saved, or while its stream has something unsaved.
  { kind: 'value', order: 'hold write return hangup release' },
  { kind: 'response', order: 'chunk write hold hangup chunk release' },
  { kind: 'response', order: 'hold write chunk hangup write release' },
  // An object changes with each store call.
  { kind: 'value', order: 'restless' },
  { kind: 'response', order: 'restless chunk write' },
  // An extension falls due as the answer ends.
  { kind: 'response', order: 'mutate due end' },
  // A save fails and nobody awaits it; the store stays away, or is back in time.
  { kind: 'value', order: 'write fail save return' },
  { kind: 'value', order: 'write fail save recover return' },
  // An id changes while the response is held, and its headers are about to leave.
  { kind: 'response', order: 'restless hold save other chunk end login' },
  { kind: 'response', order: 'hold regenerate end due other login release' },
  // What failed is dropped, and something else succeeds.
  { kind: 'response', order: 'save write restless hold login fail return login chunk' },
  { kind: 'response', order: 'mutate hold fail other login return due regenerate release' },
  // An id does not change, a save fails after that, and a later save succeeds.
  { kind: 'value', order: 'fail due regenerate save recover' },
  { kind: 'value', order: 'fail regenerate write save recover' },
];

/**
 * One response, and every order of what the handler, the client, the store, the clock and others do: see
 * `model/response-model.mjs`. All orders of three steps run in `test:exhaustive`.
 */
describe.each(ways)(
  'on $name, a response ends whole or cut, with its session saved',
  ({ adapter, fastPath }) => {
    it('in every order of two steps', async () => {
      expect(await runModel({ adapter, fastPath, depth: 2 })).toEqual({ count: 1044, problems: [] });
    });

    it.each([4, 9])('in a thousand orders of %i steps', async (depth) => {
      const sample = { count: 1000, depth, seed: depth };
      expect(await runModel({ adapter, fastPath, sample })).toEqual({ count: 1000, problems: [] });
    });

    it('after what once stopped the server or lost a write', async () => {
      const only = CASES.flatMap(({ kind, order }) =>
        ['stored', 'visitor'].map((start) => ({ kind, start, order: order.split(' ') })),
      );
      expect(await runModel({ adapter, fastPath, only })).toEqual({ count: only.length, problems: [] });
    });
  },
);
