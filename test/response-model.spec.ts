import { adapters } from './support/app.js';
import { runModel } from './support/response-model.js';

const ways = adapters.flatMap((adapter) => [
  { adapter, fastPath: true, name: `${adapter}, with the fast path` },
  { adapter, fastPath: false, name: `${adapter}, with the interceptor alone` },
]);

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

    // What once stopped the server, each by itself.
    it.each([
      [
        'a client that hangs up while its session is saved',
        'value',
        ['hold', 'write', 'return', 'hangup', 'release'],
      ],
      [
        'a client that hangs up while a stream’s session is unsaved',
        'response',
        ['chunk', 'write', 'hold', 'hangup', 'chunk', 'release'],
      ],
      [
        'a stream that is held when its client hangs up',
        'response',
        ['hold', 'write', 'chunk', 'hangup', 'write', 'release'],
      ],
      ['an object that changes with each store call', 'value', ['restless']],
      [
        'an object that changes with each store call, in a stream',
        'response',
        ['restless', 'chunk', 'write'],
      ],
      ['an extension that falls due as the answer ends', 'response', ['mutate', 'due', 'end']],
      ['a save that fails and is not awaited', 'value', ['write', 'fail', 'save', 'return']],
      [
        'a save that fails, with the store back in time',
        'value',
        ['write', 'fail', 'save', 'recover', 'return'],
      ],
    ])('after %s', async (_, kind, order) => {
      const only = ['stored', 'visitor'].map((start) => ({ kind, start, order }));
      expect(await runModel({ adapter, fastPath, only })).toEqual({ count: 2, problems: [] });
    });
  },
);
