/** What a benchmark yields, and its summary over several runs. */

/** One figure of one run. */
export interface Row {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly target?: Target;
}

/** What the median has to reach. */
export interface Target {
  readonly limit: number;
  readonly is: 'least' | 'most';
}

export function atLeast(limit: number): Target {
  return { limit, is: 'least' };
}

export function atMost(limit: number): Target {
  return { limit, is: 'most' };
}

export interface Summary {
  readonly name: string;
  readonly unit: string;
  /** In the order in which they were measured. */
  readonly runs: readonly number[];
  readonly median: number;
  /** The slowest, longest or largest: see `isLessBetter`. */
  readonly worst: number;
  readonly target?: Target;
}

/** Rows of the same name become one summary; the order is that of their first appearance. */
export function summarise(runs: readonly (readonly Row[])[]): Summary[] {
  const byName = new Map<string, { unit: string; values: number[]; target: Target | undefined }>();
  for (const { name, value, unit, target } of runs.flat()) {
    const known = byName.get(name);
    if (known === undefined) byName.set(name, { unit, values: [value], target });
    else known.values.push(value);
  }
  return [...byName].map(([name, { unit, values, target }]) => ({
    name,
    unit,
    runs: values,
    median: median(values),
    worst: isLessBetter(unit) ? Math.max(...values) : Math.min(...values),
    ...(target !== undefined && { target }),
  }));
}

/** Of an even number of values the mean of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function isReached(value: number, { limit, is }: Target): boolean {
  return is === 'least' ? value >= limit : value <= limit;
}

/** Times, costs and memory; of rates more is better. */
export function isLessBetter(unit: string): boolean {
  return LESS_IS_BETTER.has(unit);
}

const LESS_IS_BETTER: ReadonlySet<string> = new Set(['ns', 'us', 'ms', 's', 'CPU s/GB', 'MB', 'segments', 'failed']);

/** Three significant digits, or the whole part where that is longer. */
export function round3(value: number): number {
  return value >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}
