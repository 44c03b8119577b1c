/**
 * What the windows of all rounds come to, for each variant and scenario. CPU is in microseconds per request; `added` is
 * the difference to the application without sessions in the same round: the median of its windows, since its requests are
 * all alike.
 */
export function summarise(measured, variants) {
  const bare = new Map();
  for (const { name, framework } of variants.filter(({ library }) => library === 'bare')) {
    for (const [round, windows] of groups(measured.filter(isOf(name)), (window) => window.round)) {
      bare.set(`${framework} ${round}`, median(windows.map(perRequest).sort((a, b) => a - b)));
    }
  }
  const results = [];
  for (const { name, framework } of variants) {
    for (const [scenario, windows] of groups(measured.filter(isOf(name)), (window) => window.scenario)) {
      const of = (figure) => windows.map(figure).sort((a, b) => a - b);
      const added = of((window) => perRequest(window) - bare.get(`${framework} ${window.round}`));
      results.push({
        variant: name,
        scenario,
        cpu: median(of(perRequest)),
        added: median(added),
        lowest: added[0],
        highest: added.at(-1),
        throughput: median(of(({ requests, seconds }) => requests / seconds)),
        p50: median(of(({ p50 }) => p50)),
        p99: median(of(({ p99 }) => p99)),
        busy: median(of(({ cpu, seconds }) => cpu / seconds / 1e6)),
      });
    }
  }
  for (const result of results) {
    const { peer } = variants.find(isNamed(result.variant));
    const other = results.find(({ variant, scenario }) => variant === peer && scenario === result.scenario);
    if (!other) continue;
    result.peer = peer;
    result.besidePeer = {
      added: other.added > 0 ? result.added / other.added : null,
      throughput: result.throughput / other.throughput,
      p99: result.p99 / other.p99,
    };
  }
  return results;
}

/** Added CPU on one screen, and then everything, as Markdown. */
export function tables(results, variants, scenarios) {
  const shown = scenarios.filter(({ name }) => results.some(({ scenario }) => scenario === name));
  const overview = table(
    ['added CPU per request', ...shown.map(({ name }) => name)],
    variants.map(({ name, library }) => [
      name,
      ...shown.map(({ name: scenario }) => {
        const result = results.find((one) => one.variant === name && one.scenario === scenario);
        if (!result) return '';
        return library === 'bare'
          ? `${result.cpu.toFixed(0)} µs in all`
          : `${micros(result.added)} ${times(result.besidePeer?.added)}`.trim();
      }),
    ]),
  );
  const details = shown.map(({ name: scenario }) => {
    const rows = results.filter((result) => result.scenario === scenario).map(detail);
    return `\n## ${scenario}\n\n${table(HEADINGS, rows)}`;
  });
  return ['', overview, '\n(n×): times the added CPU of the peer', ...details].join('\n');
}

const HEADINGS = [
  ...['', 'CPU µs', 'added', 'in the rounds', 'requests/s', 'p50 ms', 'p99 ms', 'busy'],
  ...['of the peer: added', 'requests/s', 'p99'],
];

function detail(result) {
  const { variant, cpu, added, lowest, highest, throughput, p50, p99, busy, besidePeer } = result;
  return [
    variant,
    cpu.toFixed(1),
    micros(added),
    `${micros(lowest)} … ${micros(highest)}`,
    throughput.toFixed(0),
    (p50 / 1000).toFixed(2),
    (p99 / 1000).toFixed(2),
    `${(busy * 100).toFixed(0)} %`,
    times(besidePeer?.added),
    times(besidePeer?.throughput),
    times(besidePeer?.p99),
  ];
}

const micros = (value) => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(1)} µs`;
const times = (ratio) => (typeof ratio === 'number' ? `(${ratio.toFixed(2)}×)` : '');

function table(headings, rows) {
  const widths = headings.map((heading, index) =>
    Math.max(heading.length, ...rows.map((row) => row[index].length)),
  );
  const line = (cells) => `| ${cells.map((cell, index) => cell.padEnd(widths[index])).join(' | ')} |`;
  return [line(headings), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

const perRequest = ({ cpu, requests }) => cpu / requests;

function median(sorted) {
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function groups(items, keyOf) {
  const found = new Map();
  for (const item of items) {
    const key = keyOf(item);
    found.set(key, [...(found.get(key) ?? []), item]);
  }
  return found;
}

const isOf = (name) => (window) => window.variant === name;
const isNamed =
  (wanted) =>
  ({ name }) =>
    name === wanted;
