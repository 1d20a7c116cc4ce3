/** Two paths: never worse than the best link alone, over the whole grid. */
import test from 'ava';
import { confinedTo, type PathSpec, path, type Scenario, violations } from '../../src/sim/scenario.js';
import { mbps, report, simulate, table } from '../support/sim-run.js';

/** DESIGN 1: of our own run confined to the best link. */
const NEVER_WORSE_THAN = 0.99;

interface Pair {
  readonly name: string;
  readonly a: PathSpec;
  readonly b: PathSpec;
  readonly heading?: 'down' | 'up';
  /** Goodput against the sum of the raw rates, where the issue sets a figure. */
  readonly ofSum?: number;
}

const pairs: readonly Pair[] = [
  { name: '50/5 + 5/150', a: path('wifi', 50, 5), b: path('lte', 5, 150) },
  { name: '50/10 + 30/30', a: path('wifi', 50, 10), b: path('lte', 30, 30), ofSum: 0.9 },
  { name: '50/10 + 30/30 up', a: path('wifi', 50, 10), b: path('lte', 30, 30), heading: 'up', ofSum: 0.9 },
  { name: '100/10 + 100/10', a: path('wifi', 100, 10), b: path('lte', 100, 10), ofSum: 0.9 },
  {
    name: '100/5 0.5 % + 20/40 500 ms',
    a: path('wifi', 100, 5, { lossRate: 0.005 }),
    b: path('lte', 20, 40, { queueMs: 500 }),
    ofSum: 0.85,
  },
  { name: '100/5 + 1/300', a: path('wifi', 100, 5), b: path('lte', 1, 300) },
  {
    name: '20/20 1 % + 20/60 1 %',
    a: path('wifi', 20, 20, { lossRate: 0.01 }),
    b: path('lte', 20, 60, { lossRate: 0.01 }),
  },
  {
    name: '30/10 jitter + 10/50 bursts',
    a: path('wifi', 30, 10, { both: { jitterUs: 8000 } }),
    b: path('lte', 10, 50, { both: { burstLoss: { enter: 0.001, leave: 0.2, lossRate: 1 } } }),
  },
];

for (const pair of pairs)
  test(`${pair.name}: never worse than the best link alone`, (t) => {
    const scenario: Scenario = {
      name: pair.name,
      seed: 1,
      paths: [pair.a, pair.b],
      traffic: [{ kind: 'bulk', heading: pair.heading ?? 'down' }],
      warmupUs: 3_000_000,
      durationUs: 10_000_000,
    };
    const both = simulate(scenario);
    const alone = scenario.paths.map(({ name }) => simulate(confinedTo(scenario, name)));
    const goodput = both.traffic[0]!.goodputBps;
    const best = Math.max(...alone.map((r) => r.traffic[0]!.goodputBps));
    const direction = pair.heading ?? 'down';
    const sum = scenario.paths.reduce((total, p) => total + p[direction].rateBps!, 0);
    t.log(
      `\n${table([
        ['links', 'a alone', 'b alone', 'both', 'of best', 'of sum', 'over a', 'over b', 'reinjected %'],
        [
          pair.name,
          ...alone.map((r) => mbps(r.traffic[0]!.goodputBps)),
          mbps(goodput),
          (goodput / best).toFixed(3),
          (goodput / sum).toFixed(3),
          ...both.paths.map((p) => mbps(p[direction].goodputBps)),
          ((100 * both.traffic[0]!.reinjectedBytes) / Math.max(1, both.traffic[0]!.deliveredBytes)).toFixed(2),
        ],
      ])}`,
    );
    const broken = [both, ...alone].flatMap((r) => violations(r));
    if (goodput < NEVER_WORSE_THAN * best) broken.push(`${goodput} bit/s is less than ${NEVER_WORSE_THAN} of ${best}`);
    if (pair.ofSum !== undefined && goodput < pair.ofSum * sum)
      broken.push(`${goodput} bit/s is less than ${pair.ofSum} of ${sum}`);
    if (broken.length > 0) t.fail(report(t, both, broken));
    else t.pass();
  });
