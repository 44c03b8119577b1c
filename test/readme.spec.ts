import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const readme = await readFile('README.md', 'utf8');
const snippets = [...readme.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, code]) => code);

/** Compiles a program of its own for each snippet, since they augment the same interface differently. */
async function compile(snippet: string): Promise<string> {
  const folder = await mkdtemp(join('test', 'tmp-'));
  try {
    await writeFile(join(folder, 'snippet.ts'), snippet);
    const config = {
      extends: '../../tsconfig.json',
      compilerOptions: { noUnusedLocals: false },
      include: ['.'],
    };
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config));
    const { stdout } = await run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', folder]).catch(
      (error: { stdout: string }) => error,
    );
    return stdout;
  } finally {
    await rm(folder, { recursive: true });
  }
}

describe('the README', () => {
  it('has snippets', () => expect(snippets.length).toBeGreaterThan(5));

  it.each(snippets.map((code, index) => [index + 1, code]))(
    'snippet %i compiles as it stands',
    async (_, code) => expect(await compile(String(code))).toBe(''),
    60_000,
  );

  it('names every option', async () => {
    const source = await readFile('lib/options/session-module-options.ts', 'utf8');
    const options = [...source.matchAll(/^ {2}(\w+)\??:/gm)].map(([, name]) => name);
    expect(options.length).toBeGreaterThan(20);
    for (const option of options) expect(readme).toMatch(new RegExp(`\`(cookie\\.|auth\\.)?${option}[\`.]`));
  });

  it('names every variable of the environment', async () => {
    const source = await readFile('lib/options/session.config.ts', 'utf8');
    for (const [name] of source.matchAll(/SESSION_[A-Z_]+/g)) expect(readme).toContain(name);
  });

  it('names every error code', async () => {
    const source = await readFile('lib/errors.ts', 'utf8');
    for (const [name] of source.matchAll(/E_SESSION_\w+/g)) expect(readme).toContain(name);
  });
});
