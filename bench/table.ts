/** Results as text: one table a section. */
import { isReached, type Summary } from './stats.js';

/** Names to the left, figures to the right; the worst run where there is more than one, the target where there is one. */
export function formatTable(title: string, rows: readonly Summary[]): string {
  const hasRuns = rows.some((row) => row.runs.length > 1);
  const hasTargets = rows.some((row) => row.target !== undefined);
  const cells = [
    [title, 'median', ...(hasRuns ? ['worst'] : []), ...(hasTargets ? ['target'] : []), ''],
    ...rows.map((row) => [
      row.name,
      formatNumber(row.median),
      ...(hasRuns ? [formatNumber(row.worst)] : []),
      ...(hasTargets ? [formatTarget(row)] : []),
      row.unit,
    ]),
  ];
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((line) => line[column]!.length)));
  const lines = cells.map((line) =>
    line
      .map((cell, column) =>
        column === 0 || column === line.length - 1 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
      )
      .join('  ')
      .trimEnd(),
  );
  const rule = '─'.repeat(Math.max(...lines.map((line) => line.length)));
  return [lines[0], rule, ...lines.slice(1)].join('\n');
}

function formatTarget({ median, target }: Summary): string {
  if (target === undefined) return '';
  const text = `${target.is === 'least' ? '>=' : '<='} ${formatNumber(target.limit)}`;
  return isReached(median, target) ? text : `missed: ${text}`;
}

/** As many decimals as three significant digits need. */
export function formatNumber(value: number): string {
  if (value === 0) return '0';
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.min(3, Math.max(0, 2 - magnitude)));
}
