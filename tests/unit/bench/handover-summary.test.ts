/** The table of `npm run bench:handover`: what is missing never passes, and the worst run is shown. */
import test from 'ava';
import { ROWS, type RowSpec } from '../../../bench/handover-rows.js';
import { type Figure, type Figures, formatHandover, summariseHandover } from '../../../bench/handover-summary.js';

const LESS: RowSpec = {
  id: 'gap',
  group: 'silent',
  name: 'longest gap',
  unit: 'ms',
  decimals: 0,
  better: 'less',
  target: { limit: 300, is: 'most', by: 'median' },
};
const MORE: RowSpec = {
  ...LESS,
  id: 'share',
  name: 'share',
  unit: '',
  decimals: 3,
  better: 'more',
  target: { limit: 0.94, is: 'least', by: 'median' },
};
const ALWAYS: RowSpec = { ...LESS, target: { limit: 60, is: 'most', by: 'worst' } };
const GONE: Figure = { missing: 'the download was lost' };

function runs(id: string, ...figures: Figure[]): Figures[] {
  return figures.map((figure) => new Map([[id, figure]]));
}

function summary(spec: RowSpec, ...figures: Figure[]) {
  return summariseHandover([spec], runs(spec.id, ...figures), [])[0]!;
}

test('median and worst, for what should be small and for what should be large', (t) => {
  const less = summary(LESS, 200, 900, 100);
  t.deepEqual([less.median, less.worst, less.verdict], [200, 900, 'reached']);
  const more = summary(MORE, 0.95, 0.96, 0.5, 0.93);
  t.deepEqual([more.median, more.worst, more.verdict], [0.94, 0.5, 'reached']);
  t.is(summary(LESS, 301, 200, 302).verdict, 'missed');
});

test('a target that holds at all times is judged by the worst run', (t) => {
  t.is(summary(ALWAYS, 20, 30, 61).verdict, 'missed');
  t.is(summary(ALWAYS, 20, 30, 60).verdict, 'reached');
  t.is(summary(ALWAYS, 20, 30, GONE).verdict, 'missing');
});

test('what is missing counts as worse than anything, whichever way is better', (t) => {
  const less = summary(LESS, 100, GONE, 310);
  t.deepEqual([less.median, less.worst, less.verdict], [310, null, 'missed']);
  const more = summary(MORE, GONE, 0.99, 0.9);
  t.deepEqual([more.median, more.worst, more.verdict], [0.9, null, 'missed']);
  t.deepEqual(more.runs, [null, 0.99, 0.9]);
});

test('a row of which most runs are missing is missing, with each reason once', (t) => {
  const row = summary(LESS, GONE, 100, GONE, { missing: 'not within 2000 ms' });
  t.deepEqual([row.median, row.worst, row.verdict], [null, null, 'missing']);
  t.deepEqual(row.missing, ['the download was lost', 'not within 2000 ms']);
  t.is(summary(LESS, GONE, 100).verdict, 'missing');
  const { target: _, ...untargeted } = LESS;
  t.is(summary(untargeted, GONE).verdict, 'missing');
  t.is(summary(untargeted, 1).verdict, 'no target');
});

test('nothing lost is 0, also where more would be better', (t) => {
  t.true(Object.is(summary(MORE, 0).median, 0));
});

test('rows that were not tried are left out; the kernel stands beside the tunnel where it was', (t) => {
  const rows = summariseHandover([LESS, MORE], runs('gap', 100), runs('gap', 983));
  t.is(rows.length, 1);
  t.is(rows[0]!.kernel!.median, 983);
  t.is(summariseHandover([LESS], runs('gap', 100), [])[0]!.kernel, null);
});

test('the table: verdicts, what is missing and why', (t) => {
  const rows = summariseHandover([LESS, MORE], [...runs('gap', GONE), ...runs('share', 0.95)], runs('gap', 983));
  const lines = formatHandover([LESS, MORE], rows).split('\n');
  t.regex(lines[2]!, /^longest gap +missing +missing +<= 300 +missing +983 +983 +ms$/);
  t.regex(lines[3]!, /^share +0\.950 +0\.950 +>= 0\.94 +reached +- +-$/);
  t.is(lines.at(-1), 'missing: longest gap: the download was lost');
  t.regex(formatHandover([ALWAYS], summariseHandover([ALWAYS], runs('gap', 61), [])), /always <= 60 +missed/);
});

test('every row has an id and a name of its own', (t) => {
  t.is(new Set(ROWS.map((row) => row.id)).size, ROWS.length);
  t.is(new Set(ROWS.map((row) => row.name)).size, ROWS.length);
});
