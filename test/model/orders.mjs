/**
 * The steps of one response, of everybody who has a hand in it.
 *
 * - the handler: `write` and `restless` (an object that changes with each store call) set a value, `mutate` changes one
 *   in place; `save`, `login`, `regenerate`, `logout` are called and not awaited; `head`, `chunk`, `end` send;
 *   `return` and `throw` end the handler
 * - the client: `hangup`
 * - the store: `fail` and `recover`; `hold` and `release`
 * - the clock: `due`, the extension falls due
 * - others: `revoke` ends the session, `other` writes another key of it
 */
const ANYBODY = ['write', 'mutate', 'restless', 'save', 'login', 'regenerate', 'logout', 'return', 'throw'];
const WORLD = ['hangup', 'fail', 'recover', 'hold', 'release', 'due', 'revoke', 'other'];
const SENDING = ['head', 'chunk', 'end'];

/** Every order of so many steps that means something, for both kinds of handler. */
export function* orders(depth) {
  for (const kind of ['value', 'response']) {
    const steps = [...ANYBODY, ...WORLD, ...(kind === 'response' ? SENDING : [])];
    for (const start of ['stored', 'visitor']) {
      for (const order of sequences(steps, depth)) yield { kind, start, order };
    }
  }
}

function* sequences(steps, depth, before = []) {
  if (depth === 0) return yield before;
  for (const step of steps) {
    if (isPossible(step, before)) yield* sequences(steps, depth - 1, [...before, step]);
  }
}

/** Every step is taken where it can have an effect: nobody hangs up twice. */
export function isPossible(step, before) {
  const had = (one) => before.includes(one);
  switch (step) {
    case 'recover':
      return before.lastIndexOf('fail') > before.lastIndexOf('recover');
    case 'fail':
      return before.lastIndexOf('fail') <= before.lastIndexOf('recover') && !(had('fail') && !had('recover'));
    case 'release':
      return before.lastIndexOf('hold') > before.lastIndexOf('release');
    case 'hold':
      return before.lastIndexOf('hold') === -1 || before.lastIndexOf('release') > before.lastIndexOf('hold');
    case 'head':
      return !had('head') && !had('chunk') && !had('end') && !had('return') && !had('throw');
    case 'chunk':
    case 'end':
      return !had('end') && !had('throw');
    case 'return':
    case 'throw':
      return !had('return') && !had('throw');
    default:
      return !['hangup', 'revoke', 'other', 'due', 'restless'].includes(step) || !had(step);
  }
}

/** So many orders of so many steps, chosen by chance; the same seed chooses the same. */
export function* someOrders(count, depth, seed) {
  let state = seed;
  const next = (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (let made = 0; made < count; made++) {
    const kind = ['value', 'response'][next(2)];
    const start = ['stored', 'visitor'][next(2)];
    const steps = [...ANYBODY, ...WORLD, ...(kind === 'response' ? SENDING : [])];
    const order = [];
    while (order.length < depth) {
      const step = steps[next(steps.length)];
      if (isPossible(step, order)) order.push(step);
    }
    yield { kind, start, order };
  }
}
