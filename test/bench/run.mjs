// Server CPU per request, throughput and latency: ours beside the peers, each under the same Nest application.
//
//     npm run bench -- [--quick] [--only=fastify,memory] [--rounds=5] [--seconds=3] [--sessions=100] [--pin] [--publish]
//
// README.md beside this file says how it measures and what the figures mean.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { chart } from './chart.mjs';
import { CONNECTIONS, installed, load } from './load.mjs';
import { startRedis, startServer } from './processes.mjs';
import { summarise, tables } from './report.mjs';
import { beginSessions, checkSessions } from './sessions.mjs';
import { scenarios, variants } from './variants.mjs';

const { values: given } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    sessions: { type: 'string', default: '100' },
    pin: { type: 'boolean', default: false },
    publish: { type: 'boolean', default: false },
  },
});
const rounds = Number(given.rounds ?? (given.quick ? 1 : 5));
const seconds = Number(given.seconds ?? (given.quick ? 1 : 3));
const sessions = Math.max(CONNECTIONS, Number(given.sessions));
/** Requests of each scenario before the first is measured: V8 has compiled by then what it will. */
const warmUp = given.quick ? 1 : 5000;
const chosenScenarios = given.quick ? scenarios.slice(0, 3) : scenarios;

const note = (line) => console.error(line);

if (!(await installed('wrk'))) {
  note('The load generator is missing: apt-get install wrk');
  process.exit(1);
}
const asked = variants.filter(isChosen);
if (asked.length === 0) {
  note(`--only leaves none of these:\n${variants.map(({ name }) => name).join('\n')}`);
  process.exit(1);
}
// The server has a core to itself; the load generator and Redis share the other.
const [serverCore, loadCore] = given.pin ? [0, 1] : [];

// Interrupted, the servers and wrk end at once, and what waits for them fails and cleans up.
process.on('SIGINT', () => {});
const redis = (await installed('redis-server')) ? await startRedis(loadCore) : undefined;
try {
  const chosen = asked.filter(isPossible);
  const measured = [];
  for (let round = 1; round <= rounds; round++) {
    for (const variant of chosen) {
      note(`round ${round} of ${rounds}: ${variant.name}`);
      for (const window of await measure(variant)) measured.push({ round, variant: variant.name, ...window });
    }
  }
  const results = summarise(measured, chosen);
  console.log(tables(results, chosen, chosenScenarios));
  const file = await save({ ...machine(), rounds, seconds, sessions, pinned: given.pin, results, measured });
  console.log(`\n${file}`);
} finally {
  await redis?.stop();
}

/** Every word of --only is in its name, or its store; an application without sessions goes with those it is beside. */
function isChosen({ library, framework, name, store = '' }) {
  if (library === 'bare') {
    return variants.some((one) => one.library !== 'bare' && one.framework === framework && isChosen(one));
  }
  return given.only.split(',').every((word) => name.includes(word) || store.includes(word));
}

function isPossible({ name, store, library }) {
  if (store !== 'redis') return true;
  if (!redis) note(`Left out, for want of redis-server: ${name}`);
  const built = existsSync(new URL('../../dist/stores/redis/index.js', import.meta.url));
  if (!built && library === 'nest-session') note(`Left out, for want of dist/stores/redis: ${name}`);
  return redis && (built || library !== 'nest-session');
}

/** One variant in one round: a process, its check, its warming up, and a window for each scenario. */
async function measure(variant) {
  const server = await startServer({ ...variant, redisUrl: redis?.url }, serverCore);
  try {
    const pool = variant.store ? await beginSessions(server.url, sessions) : [];
    if (pool.length > 0) await checkSessions(server.url, pool.slice(0, 5));
    const fitting = chosenScenarios.filter(({ library }) => !library || library === variant.library);
    const options = { seconds, follow: variant.follows, core: loadCore };

    // While it warms up, every answer is checked, under load as it is; checking would disturb what is measured.
    const mixed = fitting.flatMap((scenario) => requestsOf(scenario, pool));
    for (let answered = 0; answered < warmUp * fitting.length;) {
      answered += (await load(server.url, mixed, options)).requests;
    }
    const windows = [];
    for (const scenario of fitting) {
      const requests = requestsOf(scenario, pool).map(({ path, cookie }) => ({ path, cookie }));
      windows.push({ scenario: scenario.name, ...(await measureWindow(server, requests, options)) });
    }
    return windows;
  } finally {
    await server.stop();
  }
}

/** A window in which nothing was answered tells of a machine that had no time for us. */
async function measureWindow(server, requests, options) {
  for (let attempt = 1; attempt <= 3; attempt++) {
    const before = await server.cpu();
    const answered = await load(server.url, requests, options);
    const cpu = (await server.cpu()) - before;
    if (answered.requests > 0) return { ...answered, cpu };
  }
  throw new Error(`Nothing was answered within ${options.seconds} s, three times over.`);
}

function requestsOf({ path, cookie, answer }, pool) {
  if (pool.length === 0) return Array.from({ length: CONNECTIONS }, () => ({ path }));
  return pool.map(({ client, name }) =>
    cookie ? { path, cookie: client.header, answer: answer ?? name } : { path, answer },
  );
}

function machine() {
  const git = (...args) => execFileSync('git', args, { encoding: 'utf8' }).trim();
  const [{ model }, ...others] = cpus();
  return {
    date: new Date().toISOString(),
    commit: git('rev-parse', 'HEAD') + (git('status', '--porcelain') ? ', with changes' : ''),
    node: process.version,
    processor: `${others.length + 1} × ${model}`,
  };
}

/** The results and their chart. With --publish those of docs/performance.md as well, without the single windows. */
async function save(report) {
  const folder = new URL('results/', import.meta.url);
  await mkdir(folder, { recursive: true });
  const { measured, ...published } = report;
  const file = await write(new URL(report.date.replaceAll(':', ''), folder), { ...published, measured });
  return given.publish ? write(new URL('../../docs/performance', import.meta.url), published) : file;
}

async function write(url, report) {
  const file = fileURLToPath(url);
  await writeFile(`${file}.json`, `${JSON.stringify(report, null, 2)}\n`);
  await writeFile(`${file}.svg`, chart(report));
  return relative(process.cwd(), `${file}.json`);
}
