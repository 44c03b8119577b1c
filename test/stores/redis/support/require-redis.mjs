import { isMissing, WHAT_TO_INSTALL } from './say-if-missing.mjs';

export default function requireRedis() {
  if (!isMissing()) return;
  console.error(`\n${WHAT_TO_INSTALL}`);
  process.exit(1);
}
