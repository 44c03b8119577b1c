import { SessionConfigurationError } from '../errors.js';

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

const TAKES = "a positive number of seconds, or text such as '500ms', '30m', '24h' or '7d'";

/**
 * Converts a number of seconds, the same as text (`'3600'`), or text with a unit (ms, s, m, h, d, w) to milliseconds.
 * Throws {@link SessionConfigurationError} for anything else.
 */
export function parseDuration(value: unknown, option: string): number {
  const [, amount = '', unit = 's'] =
    /^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?\s*$/.exec(
      typeof value === 'number' ? `${value}s` : String(value),
    ) ?? [];
  const milliseconds = Number(amount || Number.NaN) * UNITS[unit];
  if (typeof value === 'boolean' || !Number.isSafeInteger(Math.round(milliseconds)) || milliseconds < 1) {
    throw SessionConfigurationError.value(option, value, TAKES);
  }
  return Math.round(milliseconds);
}
