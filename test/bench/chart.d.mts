/** The results of a run, as `run.mjs` saves them, as an SVG. */
export function chart(report: object): string;
