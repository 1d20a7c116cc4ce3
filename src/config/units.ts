/**
 * Values with units as people write them: `20Mbit`, `1.5Gbit/s`, `10GB`, `64KiB`, `300ms`. Decimal prefixes are powers
 * of 1000, `Ki`, `Mi`, `Gi` powers of 1024; a bare number other than 0 is refused, since its unit is a guess.
 */

export const RATE_EXAMPLE = 'a rate such as 20Mbit or 1.5Gbit';
export const SIZE_EXAMPLE = 'a size such as 512kB, 16MiB or 10GB';
export const DURATION_EXAMPLE = 'a duration such as 300ms, 5s or 2min';

/** Bits per second, or null. */
export function parseRate(text: string): number | null {
  return parseWithUnits(text, RATE_UNITS);
}

/** Bytes, or null. */
export function parseSize(text: string): number | null {
  return parseWithUnits(text, SIZE_UNITS);
}

/** Microseconds, or null. */
export function parseDuration(text: string): number | null {
  return parseWithUnits(text, DURATION_UNITS);
}

function parseWithUnits(text: string, units: ReadonlyMap<string, number>): number | null {
  const m = /^(\d+(?:\.\d+)?)\s*([A-Za-zµ/]+)$/.exec(text.trim());
  if (m === null) return null;
  const factor = units.get(m[2]!.toLowerCase());
  if (factor === undefined) return null;
  const value = Math.round(Number(m[1]) * factor);
  return Number.isSafeInteger(value) ? value : null;
}

const RATE_UNITS: ReadonlyMap<string, number> = new Map(
  (
    [
      ['bit', 1],
      ['kbit', 1e3],
      ['mbit', 1e6],
      ['gbit', 1e9],
    ] as const
  ).flatMap(([name, factor]) => [
    [name, factor] as const,
    [`${name}/s`, factor] as const,
    [name.replace('bit', 'bps'), factor] as const,
  ]),
);

const SIZE_UNITS: ReadonlyMap<string, number> = new Map([
  ['b', 1],
  ['kb', 1e3],
  ['mb', 1e6],
  ['gb', 1e9],
  ['tb', 1e12],
  ['kib', 1024],
  ['mib', 1024 ** 2],
  ['gib', 1024 ** 3],
]);

const DURATION_UNITS: ReadonlyMap<string, number> = new Map([
  ['us', 1],
  ['µs', 1],
  ['ms', 1e3],
  ['s', 1e6],
  ['min', 60e6],
  ['h', 3600e6],
]);
