import { execFileSync } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';

const pages = ['README.md', ...(await readdir('docs')).map((name) => `docs/${name}`)];
const text = (await Promise.all(pages.map((page) => readFile(page, 'utf8')))).join('\n');
const snippets = [...text.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, code]) => code);

describe('the documentation', () => {
  it('has snippets', () => expect(snippets.length).toBeGreaterThan(5));

  it('has only snippets that compile as they stand', () => {
    const script = ['test/support/compile-snippets.mjs'];
    const output = execFileSync(process.execPath, script, {
      input: JSON.stringify(snippets),
      encoding: 'utf8',
    });
    expect(JSON.parse(output)).toEqual(snippets.map(() => ''));
  }, 120_000);

  it('names every option', async () => {
    const source = await readFile('lib/options/session-module-options.ts', 'utf8');
    const options = [...source.matchAll(/^ {2}(\w+)\??:/gm)].map(([, name]) => name);
    expect(options.length).toBeGreaterThan(20);
    for (const option of options)
      expect(text).toMatch(new RegExp(`\`(cookie\\.|auth\\.|csrf\\.)?${option}[\`.]`));
  });

  it('names every variable of the environment', async () => {
<<<<<<< HEAD:test/readme.spec.ts
    const source = await readFile('lib/session.config.ts', 'utf8');
    for (const [name] of source.matchAll(/SESSION_[A-Z_]+/g)) expect(readme).toContain(name);
  });

  it('names every error code', async () => {
    const files = ['lib/errors.ts', 'lib/csrf/csrf.exception.ts', 'lib/auth/login-required.exception.ts'];
    const source = (await Promise.all(files.map((file) => readFile(file, 'utf8')))).join('');
    for (const [name] of source.matchAll(/E_SESSION_\w+/g)) expect(readme).toContain(name);
=======
    const source = await readFile('lib/options/session.config.ts', 'utf8');
    for (const [name] of source.matchAll(/SESSION_[A-Z_]+/g)) expect(text).toContain(name);
  });

  it('names every error code', async () => {
    const source = await readFile('lib/errors.ts', 'utf8');
    for (const [name] of source.matchAll(/E_SESSION_\w+/g)) expect(text).toContain(name);
>>>>>>> 910574f (README and SECURITY.md split into docs/: the text moves as it is):test/docs.spec.ts
  });
});
