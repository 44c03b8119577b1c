import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** What a folder of lib may import, besides itself: module → nest → session → http, crypto, the stores' contract → util. */
const RULES: Readonly<Record<string, readonly string[]>> = {
  util: ['errors'],
  options: ['util', 'errors', 'stores', 'stores/memory'],
  crypto: ['util', 'errors'],
  http: ['options', 'util', 'errors'],
  stores: ['http', 'crypto', 'util', 'errors'],
  'stores/*': ['stores', 'http', 'crypto', 'util', 'errors'],
  session: ['http', 'crypto', 'stores', 'options', 'util', 'errors'],
  csrf: ['session', 'http', 'crypto', 'options', 'util', 'errors'],
  auth: ['session', 'http', 'options', 'util', 'errors'],
  nest: ['session', 'http', 'stores', 'options', 'util', 'errors'],
  testing: ['session', 'http', 'crypto', 'stores', 'options', 'util', 'errors'],
};

/** The imports of each file of lib, types included. Those by `import()` are left out: they are for who asks. */
async function importsOf(file: string): Promise<string[]> {
  const source = await readFile(file, 'utf8');
  const found = source.matchAll(/^(?:import|export)\b[^;']*?from '(\.[^']+)\.js';/gm);
  return Array.from(found, ([, path]) => `${join(dirname(file), path)}.ts`);
}

const files = (await readdir('lib', { recursive: true })).filter((name) => name.endsWith('.ts'));
const graph = new Map<string, string[]>();
for (const name of files) graph.set(join('lib', name), await importsOf(join('lib', name)));

function folderOf(file: string): string {
  return dirname(file).split('/').slice(1).join('/') || file.slice('lib/'.length, -'.ts'.length);
}

/** A path from a file back to itself, or undefined. */
function circleThrough(file: string, path: string[] = [], seen = new Set<string>()): string[] | undefined {
  for (const next of graph.get(file) ?? []) {
    if (next === (path[0] ?? file)) return [...path, file, next];
    if (seen.has(next)) continue;
    seen.add(next);
    const circle = circleThrough(next, [...path, file], seen);
    if (circle) return circle;
  }
  return undefined;
}

describe('imports', () => {
  it('point one way', () => {
    const wrong: string[] = [];
    for (const [file, imports] of graph) {
      const from = folderOf(file);
      const allowed = RULES[from] ?? (from.startsWith('stores/') ? RULES['stores/*'] : undefined);
      for (const to of imports) {
        if (allowed && folderOf(to) !== from && !allowed.includes(folderOf(to)))
          wrong.push(`${file} → ${to}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('have no circles', () => {
    const circles = [...graph.keys()].map((file) => circleThrough(file)?.join(' → ')).filter(Boolean);
    expect(circles).toEqual([]);
  });
});

it('of the package load no store that has a sub-path of its own', () => {
  const reached = new Set<string>();
  const visit = (file: string): void => {
    if (reached.has(file)) return;
    reached.add(file);
    graph.get(file)?.forEach(visit);
  };
  visit('lib/index.ts');
  expect([...reached].filter((file) => /^lib\/stores\/(redis|solidb)\//.test(file))).toEqual([]);
});
