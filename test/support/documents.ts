import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';

/** A Markdown file of the repository. */
export interface Document {
  readonly path: string;
  readonly text: string;
}

/** The pages for users of the library: README.md and docs/. */
export async function userPages(): Promise<Document[]> {
  return documents(['README.md', ...(await markdownIn('docs'))]);
}

/** Every Markdown file that people read. */
export async function allPages(): Promise<Document[]> {
  const samples = (await readdir('sample')).map((name) => `sample/${name}/README.md`);
  const others = ['CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', 'test/bench/README.md', ...samples];
  return [...(await userPages()), ...(await documents(others))];
}

/** The TypeScript snippets of a page. */
export function snippetsIn({ text }: Document): string[] {
  return [...text.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, code]) => code);
}

/** The text of a section, without its heading and without the sections after it. */
export function section({ path, text }: Document, heading: string): string {
  const lines = prose(text).split('\n');
  const start = lines.findIndex((line) => /^#/.test(line) && line.replace(/^#+ /, '') === heading);
  if (start < 0) throw new Error(`${path} has no section ${heading}`);
  const end = lines.findIndex((line, index) => index > start && /^#/.test(line));
  return lines.slice(start + 1, end < 0 ? undefined : end).join('\n');
}

/** The rows of the tables in a text, each a list of cells. */
export function rowsIn(text: string): string[][] {
  const rows = text.split('\n').filter((line) => line.startsWith('|') && !/^\|[ |-]*\|$/.test(line));
  return rows.map((row) =>
    row
      .slice(1, -1)
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim()),
  );
}

/** The first code span of a cell. */
export function codeIn(cell: string): string | undefined {
  return /`([^`]+)`/.exec(cell)?.[1];
}

/** The anchors of a page, as GitHub makes them of its headings. */
export function anchorsIn({ text }: Document): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading] of prose(text).matchAll(/^#+ (.+)$/gm)) {
    const slug = heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-');
    let anchor = slug;
    for (let again = 1; anchors.has(anchor); again++) anchor = `${slug}-${again}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** The links and pictures of a page that lead into the repository: the file, from its root, and the anchor. */
export function linksIn({ path, text }: Document): { link: string; file: string; anchor?: string }[] {
  const links = [...prose(text).matchAll(/\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"/g)].map(
    ([, markdown, html]) => markdown ?? html,
  );
  return links
    .filter((link) => !/^(?:https?|mailto):/.test(link))
    .map((link) => {
      const [target, anchor] = link.split('#');
      return { link, file: target ? normalize(join(dirname(path), target)) : path, anchor };
    });
}

/** A page without its code blocks. */
function prose(text: string): string {
  return text.replace(/^```[\s\S]*?^```/gm, '');
}

async function markdownIn(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.endsWith('.md')).map((name) => `${folder}/${name}`);
}

async function documents(paths: readonly string[]): Promise<Document[]> {
  return Promise.all(paths.map(async (path) => ({ path, text: await readFile(path, 'utf8') })));
}
