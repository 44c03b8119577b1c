/**
 * The part of SDBQL that session stores speak: `FOR d IN c FILTER … AND … (RETURN d | RETURN d.x | REMOVE d IN c |
 * COLLECT WITH COUNT INTO n RETURN n)`, with bind variables, null, numbers and text to compare with.
 */

const COMPARISONS = {
  '==': (a, b) => a === b,
  '!=': (a, b) => a !== b,
  '<': (a, b) => order(a, b) < 0,
  '<=': (a, b) => order(a, b) <= 0,
  '>': (a, b) => order(a, b) > 0,
  '>=': (a, b) => order(a, b) >= 0,
};

/** As the server orders values: null first, and what is of different types is neither before nor after. */
function order(a, b) {
  if (a === null || b === null) return Number(a !== null) - Number(b !== null);
  if (typeof a !== typeof b || a === b) return 0;
  return a < b ? -1 : 1;
}

export class QueryError extends Error {}

/**
 * @param {string} text
 * @param {Record<string, unknown>} bindVars
 * @returns {{ collection: string, removes: boolean, matches(document: object): boolean, result(documents: object[]): unknown[] }}
 */
export function parseQuery(text, bindVars) {
  const tokens = text.match(/[A-Za-z_]\w*|@\w+|\d+|"[^"]*"|[=!<>]=|[<>.,]|\S/g) ?? [];
  let position = 0;
  const peek = (word) => tokens[position]?.toUpperCase() === word;
  const take = (pattern, what) => {
    const token = tokens[position++];
    if (token === undefined || !pattern.test(token)) {
      throw new QueryError(`Parse error: expected ${what}, got ${token ?? 'the end'}`);
    }
    return token;
  };
  const words = (...expected) => expected.forEach((word) => take(new RegExp(`^${word}$`, 'i'), word));
  const name = () => take(/^[A-Za-z_]\w*$/, 'a name');

  const operand = () => {
    const token = take(/^([A-Za-z_]\w*|@\w+|\d+|".*")$/, 'a value');
    if (token.startsWith('@')) {
      const variable = token.slice(1);
      if (!Object.hasOwn(bindVars, variable)) throw new QueryError(`Bind variable '@${variable}' not found`);
      return () => bindVars[variable];
    }
    if (/^null$/i.test(token)) return () => null;
    if (/^[\d"]/.test(token)) return () => JSON.parse(token);
    if (token !== variable) throw new QueryError(`Undefined variable '${token}'`);
    words('[.]');
    const field = name();
    return (document) => (Object.hasOwn(document, field) ? document[field] : null);
  };

  words('FOR');
  const variable = name();
  words('IN');
  const collection = name();
  const conditions = [];
  while (peek('FILTER')) {
    do {
      position++;
      const left = operand();
      const compare = COMPARISONS[take(/^([=!<>]=|[<>])$/, 'a comparison')];
      const right = operand();
      conditions.push((document) => compare(left(document), right(document)));
    } while (peek('AND'));
  }
  const matches = (document) => conditions.every((holds) => holds(document));
  const parsed = { collection, removes: false, matches, result: (documents) => documents };
  if (peek('REMOVE')) {
    words('REMOVE', variable, 'IN', collection);
    parsed.removes = true;
  } else if (peek('COLLECT')) {
    words('COLLECT', 'WITH', 'COUNT', 'INTO');
    const total = name();
    words('RETURN', total);
    parsed.result = (documents) => [documents.length];
  } else {
    words('RETURN', variable);
    if (peek('.')) {
      position++;
      const field = name();
      parsed.result = (documents) => documents.map((document) => document[field] ?? null);
    }
  }
  if (position < tokens.length) throw new QueryError(`Parse error: unexpected ${tokens[position]}`);
  return parsed;
}
