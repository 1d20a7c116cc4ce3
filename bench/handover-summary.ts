/**
 * Several runs of the handover rows, in one table. A figure that could not be taken is `Missing`: it counts as worse than
 * any other, so it never helps a row to reach its target, and its reason is shown.
 */
import type { RowSpec } from './handover-rows.js';
import { isReached } from './stats.js';

export interface Missing {
  readonly missing: string;
}

export type Figure = number | Missing;

/** One run: figures by row. A row that is not there was not tried in that run. */
export type Figures = ReadonlyMap<string, Figure>;

/** Runs of one row with one of the systems. */
export interface Measured {
  /** In the order in which they were measured; null: missing. */
  readonly runs: readonly (number | null)[];
  /** null: so many runs are missing that the median is. */
  readonly median: number | null;
  /** null: at least one is missing. */
  readonly worst: number | null;
  /** Why, each reason once. */
  readonly missing: readonly string[];
}

export type Verdict = 'reached' | 'missed' | 'missing' | 'no target';

export interface HandoverSummary extends Measured {
  readonly id: string;
  readonly name: string;
  readonly unit: string;
  readonly target?: RowSpec['target'];
  readonly verdict: Verdict;
  /** Kernel MPTCP doing the same; null where it was not tried. */
  readonly kernel: Measured | null;
}

/** The rows that were tried, in the order of `specs`. */
export function summariseHandover(
  specs: readonly RowSpec[],
  tunnel: readonly Figures[],
  kernel: readonly Figures[],
): HandoverSummary[] {
  return specs.flatMap((spec) => {
    const own = measured(spec, tunnel);
    if (own === null) return [];
    const { id, name, unit, target } = spec;
    const verdict = verdictOf(spec, own);
    return [
      { id, name, unit, ...(target !== undefined && { target }), ...own, verdict, kernel: measured(spec, kernel) },
    ];
  });
}

function measured(spec: RowSpec, runs: readonly Figures[]): Measured | null {
  const figures = runs.flatMap((run) => run.get(spec.id) ?? []);
  if (figures.length === 0) return null;
  const sign = spec.better === 'less' ? 1 : -1;
  // Best first: what is missing comes last.
  const keys = figures.map((f) => (isMissing(f) ? Number.POSITIVE_INFINITY : sign * f)).sort((a, b) => a - b);
  const middle = keys.length >> 1;
  const median = keys.length % 2 === 1 ? keys[middle]! : (keys[middle - 1]! + keys[middle]!) / 2;
  const toFigure = (key: number) => (Number.isFinite(key) ? sign * key + 0 : null);
  return {
    runs: figures.map((f) => (isMissing(f) ? null : f)),
    median: toFigure(median),
    worst: toFigure(keys.at(-1)!),
    missing: [...new Set(figures.flatMap((f) => (isMissing(f) ? [f.missing] : [])))],
  };
}

function verdictOf({ target }: RowSpec, { median, worst }: Measured): Verdict {
  if (median === null) return 'missing';
  if (target === undefined) return 'no target';
  const figure = target.by === 'median' ? median : worst;
  if (figure === null) return 'missing';
  return isReached(figure, target) ? 'reached' : 'missed';
}

export function isMissing(figure: Figure): figure is Missing {
  return typeof figure === 'object';
}

/** Columns: name, median, worst, target, verdict, and the kernel's median and worst; then the reasons of what is missing. */
export function formatHandover(specs: readonly RowSpec[], rows: readonly HandoverSummary[]): string {
  const decimals = new Map(specs.map((spec) => [spec.id, spec.decimals]));
  const head = ['', 'median', 'worst', 'target', '', 'kernel MPTCP', 'worst', ''];
  const cells = [
    head,
    ...rows.map((row) => {
      const text = (value: number | null) => (value === null ? 'missing' : value.toFixed(decimals.get(row.id)));
      const kernel = row.kernel === null ? ['-', '-'] : [text(row.kernel.median), text(row.kernel.worst)];
      return [row.name, text(row.median), text(row.worst), targetText(row), verdictText(row), ...kernel, row.unit];
    }),
  ];
  const isLeft = (column: number) => column === 0 || column === 4 || column === head.length - 1;
  const widths = head.map((_, column) => Math.max(...cells.map((line) => line[column]!.length)));
  const lines = cells.map((line) =>
    line
      .map((cell, column) => (isLeft(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
  const rule = '─'.repeat(Math.max(...lines.map((line) => line.length)));
  const reasons = rows.flatMap((row) => [
    ...row.missing.map((why) => `missing: ${row.name}: ${why}`),
    ...(row.kernel?.missing ?? []).map((why) => `missing, kernel MPTCP: ${row.name}: ${why}`),
  ]);
  return [lines[0], rule, ...lines.slice(1), ...(reasons.length > 0 ? ['', ...reasons] : [])].join('\n');
}

function targetText({ target }: HandoverSummary): string {
  if (target === undefined) return '';
  const text = `${target.is === 'least' ? '>=' : '<='} ${target.limit}`;
  return target.by === 'worst' ? `always ${text}` : text;
}

function verdictText({ verdict }: HandoverSummary): string {
  return verdict === 'no target' ? '' : verdict;
}
