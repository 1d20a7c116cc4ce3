/** Results as text: one table a section. */
import type { Summary } from './stats.js';

/** Names to the left, figures to the right; the single runs are shown when there is more than one. */
export function formatTable(title: string, rows: readonly Summary[]): string {
  const hasRuns = rows.some((row) => row.runs.length > 1);
  const cells = [
    [title, 'median', ...(hasRuns ? ['worst'] : []), ''],
    ...rows.map((row) => [row.name, formatNumber(row.median), ...(hasRuns ? [formatNumber(row.worst)] : []), row.unit]),
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

/** As many decimals as three significant digits need. */
export function formatNumber(value: number): string {
  if (value === 0) return '0';
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.min(3, Math.max(0, 2 - magnitude)));
}
