import { readdir, readFile } from 'node:fs/promises';

/** The files inside `lib/` that tests may import. Everything else they reach as an application does: keep it short. */
const INSIDE = [
  'crypto/key-ring',
  'crypto/sealer',
  'crypto/xaes-256-gcm',
  'csrf/csrf-decision',
  'csrf/csrf-token',
  'options/resolved-options',
  'session/session-runtime',
  'session/travel-in-use',
  'stores/bounded-store',
  'stores/cookie/sealed-record',
  'stores/file/file-lock',
  'stores/memory/expiry-queue',
  'stores/memory/packed-fields',
  'stores/memory/sharded-map',
  'stores/migrating.store',
  'stores/session-travel',
  'stores/solidb/deadline',
  'util/bounded-cache',
  'util/duration',
  'util/origin',
  'util/serial-queue',
];

const paths = (await readdir('test', { recursive: true })).filter((path) => /\.m?ts$|\.mjs$/.test(path));
const files = await Promise.all(
  paths
    .filter((path) => !path.startsWith('bench') && !path.startsWith('package'))
    .map(async (path) => ({ path, text: await readFile(`test/${path}`, 'utf8') })),
);
const { exports } = JSON.parse(await readFile('package.json', 'utf8')) as {
  exports: Record<string, { default?: string }>;
};
const entries = Object.values(exports).flatMap((entry) => entry.default?.slice('./dist/'.length, -3) ?? []);

describe('test/', () => {
  it('imports these files inside lib/, all of them and no others', () => {
    const imported = files.flatMap(({ text }) =>
      [...text.matchAll(/'\.[./]*\/(?:lib|dist)\/([\w./-]+)\.js'/g)].map(([, name]) => name),
    );
    expect([...new Set(imported)].filter((name) => !entries.includes(name)).toSorted()).toEqual(INSIDE);
  });

  it('has no spec of more than 600 lines', () => {
    const long = files.filter(({ path, text }) => path.endsWith('.spec.ts') && text.split('\n').length > 601);
    expect(long.map(({ path }) => path)).toEqual([]);
  });
});
