/**
 * Draws the results of a run as an SVG: what a session adds to the CPU of a request, ours and the peer's, a bar each. The
 * line over a bar goes from the lowest round to the highest. Colours follow the reader's colour scheme, and there is a
 * background of its own, so that the text can be read wherever the picture is shown.
 */
const SCENARIOS = ['no cookie', 'read', 'write'];

const WIDTH = 840;
const LEFT = 110;
const RIGHT = 72;
const BAR = 16;
const GAP = 10;

const STYLE = `
    :root { --back: #ffffff; --text: #1f2328; --quiet: #59636e; --rule: #d1d9e0; --ours: #0969da; --near: #1a7f37; --peer: #848d97 }
    @media (prefers-color-scheme: dark) {
      :root { --back: #0d1117; --text: #f0f6fc; --quiet: #9198a1; --rule: #3d444d; --ours: #4493f8; --near: #3fb950; --peer: #6e7681 }
    }
    text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--text) }
    .title { font-weight: 600; font-size: 15px }
    .quiet { fill: var(--quiet); font-size: 12px }
    .ours { fill: var(--ours) } .near { fill: var(--near) } .peer { fill: var(--peer) }
    .rounds { stroke: var(--text); stroke-width: 1.5; opacity: 0.55 }
    .rule { stroke: var(--rule) }`;

/** `report` is what `run.mjs` saves. */
export function chart(report) {
  const groups = groupsOf(report.results);
  const longest = Math.max(...groups.flatMap(({ bars }) => bars.map(({ highest }) => highest)));
  const x = (micros) => round(LEFT + (Math.max(0, micros) / longest) * (WIDTH - LEFT - RIGHT));
  const out = [];
  let y = 34;
  text(20, y, 'CPU that a session adds to a request, in µs (less is better)', 'title');
  y += 20;
  text(20, y, `The line is the range of ${report.rounds} rounds. ${about(report)}`, 'quiet');
  y += 12;
  for (const { title, bars } of groups) {
    y += 26;
    text(20, y, title, 'title');
    let at = 20;
    y += 22;
    for (const { name, kind } of distinct(bars)) {
      out.push(`<rect class="${kind}" x="${at}" y="${y - 11}" width="12" height="12" rx="2"/>`);
      text(at + 18, y, name);
      at += 46 + name.length * 7.2;
    }
    y += 8;
    for (const scenario of SCENARIOS) {
      const shown = bars.filter((bar) => bar.scenario === scenario);
      if (shown.length === 0) continue;
      y += GAP;
      text(20, y + (shown.length * BAR) / 2 + 5, scenario);
      for (const { kind, added, lowest, highest, name } of shown) {
        const middle = y + BAR / 2;
        const label = `${name}, ${scenario}: ${added.toFixed(1)} µs`;
        out.push(
          `<rect class="${kind}" x="${LEFT}" y="${y + 1}" width="${round(x(added) - LEFT)}" height="${BAR - 2}" rx="2"><title>${escaped(label)}</title></rect>`,
          `<line class="rounds" x1="${x(lowest)}" y1="${middle}" x2="${x(highest)}" y2="${middle}"/>`,
        );
        text(round(Math.max(x(added), x(highest)) + 8), middle + 4.5, added.toFixed(1));
        y += BAR;
      }
    }
    y += 12;
    out.push(`<line class="rule" x1="20" y1="${y}" x2="${WIDTH - 20}" y2="${y}"/>`);
  }
  out.pop(); // the rule after the last group
  const size = `viewBox="0 0 ${WIDTH} ${y + 8}" width="${WIDTH}" height="${y + 8}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img" aria-label="CPU that a session adds to a request">`,
    `  <style>${STYLE}\n  </style>`,
    `  <rect width="100%" height="100%" style="fill: var(--back)"/>`,
    ...out.map((line) => `  ${line}`),
    '</svg>\n',
  ].join('\n');

  function text(left, base, content, kind) {
    out.push(`<text x="${left}" y="${base}"${kind ? ` class="${kind}"` : ''}>${escaped(content)}</text>`);
  }
}

/** A group for each peer: the peer's bars, and before them those of the variants that are compared with it. */
function groupsOf(results) {
  const peers = new Map();
  for (const { variant, peer } of results) {
    if (!peer) continue;
    peers.set(peer, new Set(peers.get(peer)).add(variant));
  }
  return [...peers].map(([peer, ours]) => ({
    title: titleOf([...ours][0]),
    bars: results
      .filter(({ variant }) => variant === peer || ours.has(variant))
      .map((result) => {
        const isPeer = result.variant === peer;
        const kind = isPeer ? 'peer' : result.variant.includes('near-cache') ? 'near' : 'ours';
        return { ...result, kind, name: nameOf(result.variant) };
      }),
  }));
}

/** "express nest-session memory" is of the group "Express, memory". */
function titleOf(variant) {
  const [framework, , store] = variant.replace(',', '').split(' ');
  return `${framework[0].toUpperCase()}${framework.slice(1)}, ${store}`;
}

function nameOf(variant) {
  const [, library, ...rest] = variant.split(' ');
  return rest.includes('near-cache') ? `${library}, near-cache` : library;
}

function about({ date, commit, node, processor }) {
  return `Measured ${date.slice(0, 10)} at ${commit.slice(0, 7)}, Node ${node.slice(1)}, ${processor}.`;
}

function distinct(bars) {
  return [...new Map(bars.map((bar) => [bar.name, bar])).values()];
}

const round = (value) => Math.round(value * 10) / 10;
const escaped = (text) =>
  text.replace(/[&<>"]/g, (one) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[one]);
