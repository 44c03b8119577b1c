import { existsSync } from 'node:fs';

/** Debian's, unless the environment names another. */
export const executablePath = process.env.CHROMIUM || '/usr/bin/chromium';

/** Run by jest before the first test. */
export default function findChromium() {
  if (existsSync(executablePath)) return;
  console.error(
    `\n${executablePath} is missing: install it (apt-get install chromium), or set CHROMIUM to a Chromium.`,
  );
  process.exit(1);
}
