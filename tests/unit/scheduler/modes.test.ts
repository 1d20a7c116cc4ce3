/** Traffic modes as schedulers, and the scheduler `interactive`. */
import test from 'ava';
import { schedulers } from '../../../src/core/scheduler/index.js';
import { isTrafficMode, pathModeOf, schedulerOf, TRAFFIC_MODES } from '../../../src/core/scheduler/modes.js';
import { input, type PathSpec, path } from './paths.js';

const WIFI: PathSpec = { mbit: 50, delayMs: 10 };
const LTE: PathSpec = { mbit: 30, delayMs: 30 };

test('modes: each names schedulers that exist, for both lanes', (t) => {
  const rows = TRAFFIC_MODES.map((mode) => [
    mode,
    schedulerOf(mode, true, 'blest'),
    schedulerOf(mode, false, 'blest'),
    pathModeOf(mode),
  ]);
  t.deepEqual(rows, [
    ['auto', 'interactive', 'blest', 'aggregate'],
    ['aggregate', 'blest', 'blest', 'aggregate'],
    ['handover', 'min-rtt', 'min-rtt', 'handover'],
    ['interactive', 'interactive', 'interactive', 'aggregate'],
    ['redundant', 'redundant', 'redundant', 'aggregate'],
  ]);
  for (const [, sparse, bulk] of rows) t.true(sparse! in schedulers && bulk! in schedulers);
});

test('modes: a scheduler that belongs to another mode is not used to aggregate', (t) => {
  t.is(schedulerOf('aggregate', false, 'redundant'), 'adaptive');
  t.is(schedulerOf('auto', false, 'interactive'), 'adaptive');
  t.true(isTrafficMode('handover'));
  t.false(isTrafficMode('adaptive'));
});

const interactive = () => schedulers.interactive!();

test('interactive: nothing on a slower path, also when the quick one has no room for a moment', (t) => {
  const s = interactive();
  t.is(s.select(input([path(0, LTE), path(1, WIFI)], { pendingBytes: 3000 })), 1);
  t.is(s.select(input([path(0, LTE), path(1, { ...WIFI, isFull: true })], { pendingBytes: 3000 })), -1);
});

test('interactive: a quick path so full that bytes arrive sooner over the other is not the quick one', (t) => {
  // 10 ms and 200,000 bytes at 50 Mbit/s: 42 ms; 30 ms and a segment over LTE.
  t.is(interactive().select(input([path(0, LTE), path(1, { ...WIFI, isFull: true })], { pendingBytes: 200_000 })), 0);
});

test('interactive: a doubted path is left alone while another is not in doubt', (t) => {
  const s = interactive();
  t.is(s.select(input([path(0, LTE), path(1, { ...WIFI, isDoubted: true })])), 0);
  t.is(s.select(input([path(0, { ...LTE, isFull: true }), path(1, { ...WIFI, isDoubted: true })])), -1);
  t.is(s.select(input([path(0, { ...LTE, isDoubted: true }), path(1, { ...WIFI, isDoubted: true })])), 1);
  t.is(s.select(input([path(0, { ...LTE, isStalled: true }), path(1, { ...WIFI, isDoubted: true })])), 1);
});

test('interactive: stays where it is while the other is hardly quicker', (t) => {
  const s = interactive();
  t.is(s.select(input([path(0, { delayMs: 20 }), path(1, { delayMs: 21 })])), 0);
  t.is(s.select(input([path(0, { delayMs: 20 }), path(1, { delayMs: 18 })])), 0);
  t.is(s.select(input([path(0, { delayMs: 20 }), path(1, { delayMs: 16 })])), 1);
  t.is(s.select(input([path(0, { delayMs: 15 }), path(1, { delayMs: 16 })])), 1);
});
