import { adapters } from '../support/app.js';
import { runModel } from '../support/response-model.js';

const ways = adapters.flatMap((adapter) => [
  { adapter, fastPath: true, name: `${adapter}, with the fast path` },
  { adapter, fastPath: false, name: `${adapter}, with the interceptor alone` },
]);

describe.each(ways)(
  'on $name, a response ends whole or cut, with its session saved',
  ({ adapter, fastPath }) => {
    it('in every order of three steps', async () => {
      expect(await runModel({ adapter, fastPath, depth: 3 })).toEqual({ count: 15_908, problems: [] });
    }, 600_000);

    it.each([5, 8, 13])(
      'in twenty thousand orders of %i steps',
      async (depth) => {
        const sample = { count: 20_000, depth, seed: depth * 100 };
        expect(await runModel({ adapter, fastPath, sample })).toEqual({ count: 20_000, problems: [] });
      },
      600_000,
    );
  },
);
