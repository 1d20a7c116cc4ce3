/** The default scheduler over pairs of links, with BBR on each: the sum where it pays, never less than the best link. */
import test from 'ava';
import { schedulers } from '../../../src/core/scheduler/index.js';
import type { LinkSpec } from '../congestion/link-model.js';
import { runTwoPaths } from './two-path-model.js';

const S = 1e6;

function link(mbit: number, delayMs: number, queueMs: number, loss = 0): LinkSpec {
  return { rateBitsPerS: mbit * 1e6, delayUs: delayMs * 1000, queueUs: queueMs * 1000, loss };
}

const PAIRS: readonly [string, LinkSpec[], { ofSum: number; p95Ms: number }][] = [
  ['50 Mbit/s 10 ms + 30 Mbit/s 30 ms', [link(50, 10, 100), link(30, 30, 100)], { ofSum: 0.97, p95Ms: 60 }],
  ['100 + 100 Mbit/s 10 ms', [link(100, 10, 100), link(100, 10, 100)], { ofSum: 0.97, p95Ms: 30 }],
  [
    '100 Mbit/s 5 ms 0.5 % + 20 Mbit/s 40 ms',
    [link(100, 5, 100, 0.005), link(20, 40, 500)],
    { ofSum: 0.96, p95Ms: 80 },
  ],
  ['50 Mbit/s + 50 Mbit/s 1 % loss', [link(50, 10, 100), link(50, 10, 100, 0.01)], { ofSum: 0.96, p95Ms: 50 }],
];

for (const [name, links, want] of PAIRS) {
  test(`adaptive: the sum of ${name}`, (t) => {
    const r = runTwoPaths(links, schedulers.adaptive!(), 5 * S);
    const sum = links.reduce((total, l) => total + l.rateBitsPerS, 0);
    const share = r.goodputBitsPerS(2 * S, 5 * S) / sum;
    t.true(share >= want.ofSum, `${share}`);
    t.true(r.delayUs(0.95, 2 * S, 5 * S) <= want.p95Ms * 1000, `${r.delayUs(0.95, 2 * S, 5 * S)}`);
    t.true(r.goodputBitsPerS(0, 2 * S) / sum > 0.85, 'from the start');
  });
}

for (const windowBytes of [8_000_000, 600_000]) {
  test(`adaptive: never worse than 50 Mbit/s 5 ms alone with 5 Mbit/s 150 ms beside it, window ${windowBytes}`, (t) => {
    const quick = link(50, 5, 100);
    const slow = link(5, 150, 100);
    const alone = runTwoPaths([quick], schedulers.adaptive!(), 5 * S, windowBytes);
    for (const links of [
      [quick, slow],
      [slow, quick],
    ]) {
      const both = runTwoPaths(links, schedulers.adaptive!(), 5 * S, windowBytes);
      t.true(both.goodputBitsPerS(0, 5 * S) >= 0.99 * alone.goodputBitsPerS(0, 5 * S));
      t.true(both.delayUs(0.99, 1 * S, 5 * S) <= 1.2 * alone.delayUs(0.99, 1 * S, 5 * S), 'nor is the delay');
    }
  });
}

test('min-rtt, for comparison, fills the small window with the slow path', (t) => {
  const links = [link(50, 5, 100), link(5, 150, 100)];
  const r = runTwoPaths(links, schedulers['min-rtt']!(), 5 * S, 600_000);
  t.true(r.goodputBitsPerS(0, 5 * S) < 0.5 * 50e6);
});

test('ecf, for comparison, waits for the quick path for ever when little is pending', (t) => {
  const r = runTwoPaths([link(50, 10, 100), link(30, 30, 100)], schedulers.ecf!(), 3 * S);
  t.true(r.sentBytes[1]! < 0.02 * r.sentBytes[0]!);
});
