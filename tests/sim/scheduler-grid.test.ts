/** Which scheduler `aggregate` should use: the table behind docs/decisions/0005. Rates are a quarter of the names'. */
import test from 'ava';
import { path } from '../../src/sim/scenario.js';
import { simulate, table } from '../support/sim-run.js';

const S = 1_000_000;
const SCHEDULERS = ['patient', 'adaptive', 'blest', 'ecf'];
const BUFFERS = [16 * 1024 * 1024, 200_000];
/** One run of five seconds is not exact to a percent. */
const NEVER_BEHIND = 0.99;

const pairs = [
  { name: '50/10 + 30/30', paths: [path('a', 12.5, 10), path('b', 7.5, 30)] },
  { name: '50/5 + 5/150', paths: [path('a', 12.5, 5), path('b', 1.25, 150)] },
  {
    name: '100/5 0.5 % + 20/40 500 ms',
    paths: [path('a', 25, 5, { lossRate: 0.005 }), path('b', 5, 40, { queueMs: 500 })],
  },
];

test('what a transfer gets by default is behind no other scheduler on any pair of links, with a large window or a small one', (t) => {
  const rows: (readonly (string | number)[])[] = [['links', 'buffer', ...SCHEDULERS]];
  for (const { name, paths } of pairs)
    for (const receiveBufferBytes of BUFFERS) {
      const shares = SCHEDULERS.map((scheduler) => {
        const traffic = [{ kind: 'bulk', heading: 'down' } as const];
        const run = { name, seed: 1, paths, scheduler, receiveBufferBytes, traffic };
        const result = simulate({ ...run, warmupUs: 2 * S, durationUs: 7 * S });
        return result.traffic[0]!.goodputBps / paths.reduce((sum, p) => sum + p.down.rateBps!, 0);
      });
      rows.push([name, receiveBufferBytes, ...shares.map((share) => share.toFixed(3))]);
      t.true(shares[0]! >= NEVER_BEHIND * Math.max(...shares), `${name}, ${receiveBufferBytes}: ${shares}`);
    }
  t.log(`share of the sum of the raw rates\n${table(rows)}`);
});
