import { readdir, readFile } from 'node:fs/promises';
import { basename } from 'node:path';

const document = (await readFile('SECURITY.md', 'utf8')) + (await readFile('docs/security.md', 'utf8'));
const specs = (await readdir('test', { recursive: true })).filter((path) => path.endsWith('.spec.ts'));
const cves = await readFile('test/session/cves.spec.ts', 'utf8');

/** `file.spec.ts` › "part of a title" */
const CITATION = /`([\w-]+\.spec\.ts)` › "([^"]+)"/g;
const citations = [...document.matchAll(CITATION)].map(([, file, title]) => [file, title] as const);
const rows = document.split('\n').filter((line) => line.startsWith('| CVE-'));

/** The titles of a spec's tests and groups, as they are written: strings that come first in a call, and not alone. */
function titles(source: string): string[] {
  return [...source.matchAll(/(?:^\s*|\()(['`])(.+?)\1,/gm)].map(([, , title]) => title);
}

describe('SECURITY.md and docs/security.md', () => {
  it('cites tests, and in no other form', () => {
    expect(citations.length).toBeGreaterThan(60);
    expect(document.match(/\.spec\.ts/g)).toHaveLength(citations.length);
  });

  it.each(citations)('%s has a test or a group called "%s"', async (file, title) => {
    const named = specs.filter((path) => basename(path) === file);
    expect(named).not.toEqual([]);
    const sources = await Promise.all(named.map((path) => readFile(`test/${path}`, 'utf8')));
    expect(sources.flatMap(titles).some((one) => one.includes(title))).toBe(true);
  });

  it('has a row for each CVE that is tested, which cites a test named by one of its CVEs', () => {
    const tested = new Set(cves.match(/CVE-\d{4}-\d+/g));
    const listed = new Set(rows.join('\n').match(/CVE-\d{4}-\d+/g));
    expect([...listed].toSorted()).toEqual([...tested].toSorted());
    for (const row of rows) {
      const cited = [...row.matchAll(CITATION)].filter(([, file]) => file === 'cves.spec.ts');
      const named = titles(cves).filter((title) => cited.some(([, , part]) => title.includes(part)));
      expect(named.length).toBeGreaterThan(0);
    }
  });
});
