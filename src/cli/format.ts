/** Figures and tables for people. */

export function formatRate(bitPerS: number): string {
  return `${scaled(bitPerS, 1000, ['', 'k', 'M', 'G', 'T'])}bit/s`;
}

export function formatBytes(bytes: number): string {
  return `${scaled(bytes, 1000, ['', 'k', 'M', 'G', 'T'])}B`;
}

export function formatRtt(seconds: number | null): string {
  if (seconds === null) return '-';
  const ms = seconds * 1000;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

export function formatPercent(ratio: number | null): string {
  if (ratio === null) return '-';
  const percent = ratio * 100;
  return `${percent === 0 ? '0' : percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
}

/** `3 s`, `12 min`, `2 h 13 min`, `5 d 1 h` */
export function formatAge(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** Columns padded to their widest cell; columns in `right` are aligned right. The last column is never padded. */
export function formatTable(rows: readonly (readonly string[])[], right: ReadonlySet<number> = new Set()): string[] {
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, c) => Math.max(...rows.map((row) => (row[c] ?? '').length)));
  return rows.map((row) =>
    row
      .map((cell, c) => (right.has(c) ? cell.padStart(widths[c]!) : c === columns - 1 ? cell : cell.padEnd(widths[c]!)))
      .join('  ')
      .trimEnd(),
  );
}

export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  good(text: string): string;
  warn(text: string): string;
  bad(text: string): string;
}

/** Colours on a terminal, plain text otherwise and under NO_COLOR. */
export function styleFor(stream: { isTTY?: boolean | undefined }): Style {
  const isPlain = !stream.isTTY || (process.env.NO_COLOR ?? '') !== '' || process.env.TERM === 'dumb';
  const sgr = (code: number) => (text: string) => (isPlain ? text : `\x1b[${code}m${text}\x1b[0m`);
  return { bold: sgr(1), dim: sgr(2), good: sgr(32), warn: sgr(33), bad: sgr(31) };
}

function scaled(value: number, base: number, prefixes: readonly string[]): string {
  let v = value;
  let i = 0;
  while (v >= base && i < prefixes.length - 1) {
    v /= base;
    i++;
  }
  const digits = i === 0 || v >= 100 ? 0 : v >= 10 ? 1 : 2;
  return `${v.toFixed(digits)} ${prefixes[i]}`;
}
