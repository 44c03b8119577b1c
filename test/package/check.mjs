/**
 * Proves that the package works as published: packs it, installs the tarball into fresh projects, and compiles, starts
 * and visits the application in fixtures/app there. Nothing of the working copy but the tarball is used in them.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { builtinModules } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const fixture = fileURLToPath(new URL('fixtures/app/', import.meta.url));

/** The two ends of what is supported. Both compile the same source, the one to ESM, the other to CommonJS. */
const projects = [
  { name: 'Nest 12, ESM', type: 'module', nest: 12, config: 12 },
  { name: 'Nest 11, CommonJS', type: 'commonjs', nest: 11, config: 4 },
];

const temp = await mkdtemp(join(tmpdir(), 'nest-session-package-'));
// An interrupt ends the command that runs, and so this script, by way of the cleaning up below.
process.on('SIGINT', () => {});
try {
  const tarball = await pack();
  await lintPackage(tarball);
  for (const project of projects) await tryIn(project, tarball);
} catch (error) {
  console.error(`FAILED  ${error.message}`);
  process.exitCode = 1;
} finally {
  await rm(temp, { recursive: true, force: true });
}

async function pack() {
  // Without its scripts' output, which would come before the JSON.
  const flags = ['--json', '--silent', '--foreground-scripts=false'];
  const [packed] = JSON.parse(await run(root, 'npm', 'pack', ...flags, '--pack-destination', temp));
  const files = new Set(packed.files.map(({ path }) => path));
  for (const file of ['dist/index.js', 'dist/index.d.ts', 'README.md', 'LICENSE', 'package.json']) {
    assert(files.has(file), `The tarball lacks ${file}`);
  }
  for (const file of files) {
    assert.match(file, /^dist\/|^[^/]+$/, `The tarball has a file that is not for users: ${file}`);
    assert.doesNotMatch(file, /\.(?:spec|test)\.|\.tsbuildinfo$/, `The tarball has ${file}`);
  }
  passed(`npm pack: ${packed.filename}, ${files.size} files, none missing and none too many`);
  return join(temp, packed.filename);
}

async function lintPackage(tarball) {
  await run(root, bin(root, 'publint'), 'run', '--strict', tarball);
  passed('publint --strict');
  // The package is ESM only. The rule speaks of Node before 20.19, where require() of ESM was an error; the engines
  // start at 20.19, and the CommonJS project below shows that it works. The profile esm-only would look at nothing
  // that CommonJS gets, so this one, which leaves out only the resolution that knows no "exports".
  const profile = ['--profile', 'node16', '--ignore-rules', 'cjs-resolves-to-esm'];
  await run(root, bin(root, 'attw'), tarball, '--no-definitely-typed', ...profile);
  passed('attw --profile node16');
}

async function tryIn({ name, type, nest, config }, tarball) {
  const project = join(temp, type);
  await mkdir(project);
  await cp(fixture, project, { recursive: true });
  await writeFile(join(project, 'package.json'), JSON.stringify({ private: true, type }));
  const packages = [
    ...['common', 'core', 'platform-express'].map((part) => `@nestjs/${part}@${nest}`),
    `@nestjs/config@${config}`,
    'reflect-metadata',
    'rxjs',
    'typescript@6.0',
    '@types/node@20',
  ];
  await run(project, 'npm', 'install', '--no-audit', '--no-fund', '--prefer-offline', ...packages, tarball);
  const { version } = await readJson(project, 'node_modules/@nestjs/core/package.json');
  assert.equal(Number.parseInt(version, 10), nest, `${name}: @nestjs/core ${version} is installed`);
  passed(`${name}: installed with @nestjs/core ${version}`);

  await needsOnlyPeers(name, project);

  await run(project, bin(project, 'tsc'));
  const compiled = await readFile(join(project, 'dist/app.js'), 'utf8');
  const imports = type === 'module' ? "from 'nest-session'" : 'require("nest-session")';
  assert(compiled.includes(imports), `${name}: the compiled application does not say ${imports}`);
  passed(`${name}: compiles, declarations included; what must be a type error is one`);

  await run(project, process.execPath, 'dist/main.js');
  passed(`${name}: starts, keeps a session across requests, stops`);

  const loaded = await loadEntryPoints(project, type);
  passed(`${name}: loads ${loaded.join(', ')}`);

  if (nest === 11) await tryTraced(name, project);
}

/** OpenTelemetry's Nest instrumentation wraps what the fast path wraps. */
async function tryTraced(name, project) {
  const packages = ['instrumentation', 'instrumentation-nestjs-core', 'sdk-trace-node'].map(
    (part) => `@opentelemetry/${part}`,
  );
  await run(project, 'npm', 'install', '--no-audit', '--no-fund', '--prefer-offline', ...packages);
  await cp(fileURLToPath(new URL('fixtures/traced.cjs', import.meta.url)), join(project, 'traced.cjs'));
  await run(project, process.execPath, 'traced.cjs');
  passed(`${name}: keeps a session under OpenTelemetry's instrumentation, with its spans`);
}

/** The memory store works without ioredis, and nothing is imported that the manifest does not name. */
async function needsOnlyPeers(name, project) {
  const manifest = await readJson(project, 'node_modules/nest-session/package.json');
  assert.deepEqual(manifest.dependencies ?? {}, {}, `${name}: the package has dependencies, not only peers`);
  const { packages } = await readJson(project, 'node_modules/.package-lock.json');
  for (const path of Object.keys(packages)) {
    assert.doesNotMatch(path, /node_modules\/ioredis$/, `${name}: ioredis was installed, at ${path}`);
    assert.doesNotMatch(path, /nest-session\/node_modules\//, `${name}: a second copy is at ${path}`);
  }

  const known = new Set([...Object.keys(manifest.peerDependencies), manifest.name, ...builtinModules]);
  const dist = join(project, 'node_modules/nest-session/dist');
  for (const file of await readdir(dist, { recursive: true })) {
    if (!/\.(?:js|d\.ts)$/.test(file)) continue;
    for (const specifier of importsOf(await readFile(join(dist, file), 'utf8'))) {
      const [, imported] = /^(?:node:)?((?:@[^/]+\/)?[^/]+)/.exec(specifier) ?? [];
      assert(known.has(imported), `${name}: dist/${file} imports ${specifier}, which is no peer dependency`);
    }
  }
  passed(`${name}: needs its peers and nothing else, no ioredis`);
}

/** The packages that compiled code or a declaration imports. */
function importsOf(source) {
  const statement = /^(?:import\s*|(?:import|export)\b[^'"=();]*\bfrom\s*)['"]([^'".][^'"]*)['"]/gm;
  const expression = /\bimport\(\s*['"]([^'".][^'"]*)['"]/g;
  return [statement, expression].flatMap((pattern) => [...source.matchAll(pattern)].map((match) => match[1]));
}

/** Loads each entry point in a process of its own; a subpath may ask for its optional peer, by name. */
async function loadEntryPoints(project, type) {
  const manifest = await readJson(project, 'node_modules/nest-session/package.json');
  const optional = Object.keys(manifest.peerDependenciesMeta ?? {});
  const entries = Object.keys(manifest.exports).filter((entry) => !entry.endsWith('.json'));
  assert(entries.includes('.'), 'The package has no main entry point');
  const loaded = [];
  for (const entry of entries) {
    const specifier = entry.replace('.', manifest.name);
    const code = type === 'module' ? `await import('${specifier}')` : `require('${specifier}')`;
    try {
      await run(project, process.execPath, '--input-type', type, '-e', code);
      loaded.push(specifier);
    } catch (error) {
      const [, missing] = /Cannot find (?:package|module) '([^']+)'/.exec(error.message) ?? [];
      if (entry === '.' || !optional.includes(missing)) throw error;
      loaded.push(`${specifier} (asks for ${missing})`);
    }
  }
  return loaded;
}

/** What the command prints, or an error that shows it. Nothing here takes long, so what hangs is ended. */
function run(cwd, command, ...args) {
  const env = { ...process.env, NODE_ENV: 'test', NO_COLOR: '1' };
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], timeout: 90_000 });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(stdout);
      const line = [command, ...args].join(' ');
      return reject(new Error(`${line}\nended with ${signal ?? code}:\n${stdout}${stderr}`));
    });
  });
}

function bin(folder, name) {
  return join(folder, 'node_modules/.bin', name);
}

async function readJson(folder, path) {
  return JSON.parse(await readFile(join(folder, path), 'utf8'));
}

function passed(check) {
  console.log(`ok  ${check}`);
}
