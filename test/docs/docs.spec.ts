import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { runInNewContext } from 'node:vm';
import { type ResolvedSessionOptions, resolveOptions } from '../../lib/options/resolved-options.js';
import { chart } from '../bench/chart.mjs';
import {
  allPages,
  anchorsIn,
  codeIn,
  linksIn,
  rowsIn,
  section,
  snippetsIn,
  userPages,
} from '../support/documents.js';

const pages = await userPages();
const everything = await allPages();
const snippets = pages.flatMap((one) => snippetsIn(one).map((code) => ({ path: one.path, code })));

const sources = (await readdir('lib', { recursive: true })).filter((name) => name.endsWith('.ts'));
const library = (await Promise.all(sources.map((name) => readFile(`lib/${name}`, 'utf8')))).join('\n');

function page(path: string) {
  return pages.find((one) => one.path === path) as (typeof pages)[number];
}

describe('README.md', () => {
  it('has at most 250 lines', () => {
    expect(page('README.md').text.split('\n').length - 1).toBeLessThanOrEqual(250);
  });

  it('links to every page of docs/', () => {
    const linked = linksIn(page('README.md')).map(({ file }) => file);
    const others = pages.map(({ path }) => path).filter((path) => path !== 'README.md');
    expect(linked).toEqual(expect.arrayContaining(others));
  });
});

describe('snippets', () => {
  it('are there, and are in a language that is known here', () => {
    expect(snippets.length).toBeGreaterThan(20);
    const languages = pages.flatMap(({ text }) => [...text.matchAll(/^```(\w*)\n[\s\S]*?^```/gm)]);
    for (const [, language] of languages)
      expect(['ts', 'js', 'sh', 'ini', 'mermaid', 'text']).toContain(language);
  });

  it('compile as they stand', () => {
    const output = execFileSync(process.execPath, ['test/support/compile-snippets.mjs'], {
      input: JSON.stringify(snippets.map(({ code }) => code)),
      encoding: 'utf8',
    });
    const problems: string[] = JSON.parse(output);
    expect(problems).toHaveLength(snippets.length);
    const failed = problems.map((problem, index) => problem && `${snippets[index].path}: ${problem}`);
    expect(failed.filter(Boolean)).toEqual([]);
  }, 240_000);
});

describe('the repository', () => {
  it('has one home, in package.json, the issue templates and the workflow', async () => {
    const { homepage, bugs, repository, engines } = JSON.parse(await readFile('package.json', 'utf8'));
    const home = homepage.replace('#readme', '');
    expect([bugs, repository.url]).toEqual([`${home}/issues`, `git+${home}.git`]);
    const templates = (await readdir('.github/ISSUE_TEMPLATE')).map(
      (name) => `.github/ISSUE_TEMPLATE/${name}`,
    );
    const texts = await Promise.all(templates.map((file) => readFile(file, 'utf8')));
    expect(texts.join().match(/https:[^\s)]+/g)).toEqual(Array(2).fill(`${home}/security/policy`));

    const workflow = await readFile('.github/workflows/ci.yml', 'utf8');
    const majors = [...engines.node.matchAll(/(?:\^|>=)(\d+)/g)].map(([, major]) => major);
    expect(workflow).toContain(`node: [${majors.join(', ')}]`);
    expect(workflow).toContain('bash .ci/run');
  });
});

describe('links', () => {
  const files = new Map(everything.map((one) => [one.path, one]));

  it.each(everything.map((one) => [one.path, one] as const))(
    'of %s lead to a file and a heading',
    (_, one) => {
      const dead = linksIn(one).filter(({ file, anchor }) => {
        if (!existsSync(file)) return true;
        const target = files.get(file);
        return anchor !== undefined && !(target && anchorsIn(target).has(anchor));
      });
      expect(dead.map(({ link }) => link)).toEqual([]);
    },
  );
});

interface Measured {
  readonly variant: string;
  readonly scenario: string;
  readonly added: number;
}

/** An option as the declarations have it. */
interface Option {
  readonly name: string;
  /** What its docstring says behind `@default`. */
  readonly default: string | undefined;
}

/** The options of each interface that users write: its name, and its members. */
const interfaces = [
  ...library.matchAll(/^export interface ((?:Session|\w+Store)\w*Options) \{\n([\s\S]*?)^\}/gm),
]
  .map(([, name, body]) => [name, optionsIn(body)] as const)
  .filter(([name]) => !name.startsWith('Resolved'));

function optionsIn(body: string): Option[] {
  return [...body.matchAll(/(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s+)?^ {2}(\w+)\??:/gm)].map(
    ([, comment, name]) => ({
      name,
      default: /@default (.+?)\s*(?:\n|$)/.exec(comment ?? '')?.[1],
    }),
  );
}

/** The rows of an interface's options in docs/options.md, by the option's name. */
function table(of: string): Map<string, string[]> {
  const part = /^Session(Cookie|Auth|Csrf)Options$/.exec(of)?.[1];
  const store = /^(\w+Store)Options$/.exec(of)?.[1];
  const rows = rowsIn(section(page('docs/options.md'), store ?? 'Options of the module'));
  const prefix = part ? `${part.toLowerCase()}.` : '';
  const named = rows.map((row) => [codeIn(row[0]) ?? '', row] as const);
  return new Map(
    named
      .filter(([name]) => name !== '' && name.startsWith(prefix) && (prefix !== '' || !name.includes('.')))
      .map(([name, row]) => [name.slice(prefix.length), row]),
  );
}

const plain = (cell: string) => cell.replaceAll('`', '');

describe('docs/options.md', () => {
  it('is about the options that there are', () => {
    expect(interfaces.map(([name]) => name).toSorted()).toEqual([
      'CookieStoreOptions',
      'FileStoreOptions',
      'MemoryStoreOptions',
      'RedisStoreOptions',
      'SessionAuthOptions',
      'SessionCookieOptions',
      'SessionCsrfOptions',
      'SessionModuleOptions',
      'SolidbStoreOptions',
    ]);
  });

  it.each(interfaces)(
    'has every option of %s, and no other, with the default of the docstring',
    (name, options) => {
      const rows = table(name);
      expect([...rows.keys()].toSorted()).toEqual(options.map((option) => option.name).toSorted());
      const documented = options.filter((option) => option.default !== undefined);
      const shown = documented.map((option) => ({
        ...option,
        default: plain(rows.get(option.name)?.[1] ?? ''),
      }));
      expect(shown).toEqual(documented);
    },
  );

  it('gives the defaults of the code', () => {
    const secret = 'x'.repeat(32);
    const resolved = comparable(resolveOptions({ secret }));
    let compared = 0;
    for (const [cells, value] of literals('Options of the module')) {
      const [part, key] = (codeIn(cells[0]) as string).split('.');
      const given = key === undefined ? { [part]: value } : { [part]: { [key]: value } };
      expect([cells[0], comparable(resolveOptions({ secret, ...given }))]).toEqual([cells[0], resolved]);
      compared++;
    }
    expect(compared).toBeGreaterThan(18);
  });

  it('has every variable of the environment, and no other, with the default of its option', () => {
    const rows = rowsIn(section(page('docs/options.md'), 'Variables')).slice(1);
    const variables = new Set(
      [...library.matchAll(/'(SESSION_[A-Z_]+)'\)?[,:;\] ]/g)].map(([, name]) => name),
    );
    variables.delete('SESSION_STORE');
    variables.delete('SESSION_OPTIONS');
    expect(rows.map(([name]) => codeIn(name)).toSorted()).toEqual([...variables].toSorted());

    const options = new Map<string, string>();
    for (const [name] of interfaces) {
      const store = /^(\w+Store)Options$/.exec(name)?.[1];
      const part = /^Session(Cookie|Auth|Csrf)Options$/.exec(name)?.[1]?.toLowerCase();
      for (const [option, [, cell]] of table(name)) {
        options.set(store ? `${store} ${option}` : part ? `${part}.${option}` : option, plain(cell));
      }
    }
    // What each variable is called as an option: `maxAge: 'SESSION_MAX_AGE'`.
    for (const [, quoted, bare, variable] of library.matchAll(
      /^ {2}(?:'([^']+)'|(\w+)): '(SESSION_\w+)',/gm,
    )) {
      const row = rows.find(([name]) => codeIn(name) === variable) as string[];
      // What has to be given as an option may have a default as a variable: the secret.
      const expected = options.get(quoted ?? bare) ?? 'required';
      const shown = plain(row[2]).replace(/^(?:required with|a random one).*/, 'required');
      expect([variable, shown]).toEqual([variable, expected]);
    }
  });
});

describe('docs/performance.md', () => {
  it('has the chart and the figures of docs/performance.json', async () => {
    const report = JSON.parse(await readFile('docs/performance.json', 'utf8'));
    expect(await readFile('docs/performance.svg', 'utf8')).toBe(chart(report));

    const [scenarios, ...rows] = rowsIn(section(page('docs/performance.md'), 'Sessions in memory'));
    const added = (variant: string, scenario: string): string =>
      report.results
        .filter((one: Measured) => one.variant === variant && one.scenario === scenario)
        .map((one: Measured) => one.added.toFixed(1))
        .join();
    expect(rows).toHaveLength(2);
    for (const [title, ...cells] of rows) {
      const [, framework, peer] = /^(\w+) \((.+)\)$/.exec(title) as RegExpExecArray;
      const expected = scenarios.slice(1).map((heading) => {
        const scenario = heading.includes('Skip') ? 'skip' : heading;
        const ours = added(`${framework.toLowerCase()} nest-session memory`, scenario);
        const theirs = added(`${framework.toLowerCase()} ${peer} memory`, scenario);
        return theirs ? `**${ours}** (${theirs})` : `**${ours}**`;
      });
      expect(cells).toEqual(expected);
    }
  });
});

describe('docs/errors.md', () => {
  it('has every code, and no other', () => {
    const codes = new Set([...library.matchAll(/'(E_SESSION_\w+)'/g)].map(([, code]) => code));
    const [, checks] = /export type CsrfRefusal =([^;]+);/.exec(library) as RegExpExecArray;
    for (const [, check] of checks.matchAll(/'([\w-]+)'/g)) {
      codes.add(`E_SESSION_CSRF_${check.toUpperCase().replace('-', '_')}`);
    }
    expect(codes.size).toBeGreaterThan(12);
    const rows = rowsIn(page('docs/errors.md').text).map(([cell]) => codeIn(cell));
    expect(rows.filter(Boolean).toSorted()).toEqual([...codes].toSorted());
  });
});

/** The rows of a table whose default is a literal, and its value. */
function* literals(heading: string): Generator<[string[], unknown]> {
  for (const cells of rowsIn(section(page('docs/options.md'), heading))) {
    const [, literal] = /^`([^`]+)`(?: \(.*\))?$/.exec(cells[1]) ?? [];
    if (literal === undefined || literal.startsWith('new ') || literal === 'Date.now') continue;
    yield [cells, JSON.parse(JSON.stringify(runInNewContext(`(${literal})`)))];
  }
}

/** What was resolved, as values that can be compared. */
function comparable({ store, defaults, csrf, ...options }: ResolvedSessionOptions): object {
  return {
    ...options,
    store: store.constructor.name,
    defaults: [...defaults()],
    csrf: { ...csrf, trustedOrigins: [...csrf.trustedOrigins] },
  };
}
