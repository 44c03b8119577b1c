import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Document, snippetsIn, userPages } from './documents.js';

/** The snippets of the documentation, to be run as they stand. */
export class Snippets {
  #loaded = 0;

  private constructor(
    private readonly pages: readonly Document[],
    private readonly folder: string,
  ) {}

  static async load(): Promise<Snippets> {
    // In test/, where a module resolves as it does for the tests.
    return new Snippets(await userPages(), await mkdtemp(resolve('test', 'snippets-')));
  }

  /** The exports of the snippet on `path` that declares `name`: a new module each time. */
  async module(path: string, name: string): Promise<Record<string, any>> {
    const declares = new RegExp(`^export (?:class|async function) ${name}\\b`, 'm');
    const code = only(
      snippetsIn(this.#page(path)).filter((one) => declares.test(one)),
      `${name} on ${path}`,
    );
    const file = join(this.folder, `${++this.#loaded}.ts`);
    await writeFile(file, code);
    return import(file);
  }

  /** The .env file that a page shows. */
  settings(path: string): string {
    const blocks = [...this.#page(path).text.matchAll(/^```ini\n([\s\S]*?)^```/gm)].map(([, text]) => text);
    return only(blocks, `settings on ${path}`);
  }

  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }

  #page(path: string): Document {
    return only(
      this.pages.filter((page) => page.path === path),
      path,
    );
  }
}

function only<T>(found: readonly T[], what: string): T {
  if (found.length !== 1) throw new Error(`There are ${found.length} snippets or pages: ${what}`);
  return found[0];
}
