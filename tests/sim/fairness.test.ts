/**
 * Coupled congestion control in the whole stack (RFC 6356 1 and 2.1): what a connection of two subflows takes of a
 * bottleneck that it shares with one TCP, and of two disjoint ones. Each test prints its table.
 */
import test, { type ExecutionContext } from 'ava';
import type { LinkConfig } from '../../src/sim/link-model.js';
import type { PathSpec, Scenario, Traffic } from '../../src/sim/scenario.js';
import { mbps, simulate, table } from '../support/sim-run.js';

const COUPLED = ['lia', 'olia', 'balia'] as const;
const RATE_MBPS = 10;
const SEEDS = [1, 2];
/** Of its share: half of the bottleneck, as there are two connections. */
const LEAST_SHARE = 0.7;
const MOST_SHARE = 1.3;

interface Situation {
  readonly rateMbps: number;
  /** RTTs without any queue, of the two subflows and of the TCP. */
  readonly rttMs: readonly [number, number];
  readonly rivalRttMs: number;
  readonly queueMs: number;
}

const SITUATIONS: readonly Situation[] = [
  { rateMbps: 10, rttMs: [20, 20], rivalRttMs: 20, queueMs: 20 },
  { rateMbps: 4, rttMs: [20, 20], rivalRttMs: 20, queueMs: 100 },
  { rateMbps: 10, rttMs: [10, 40], rivalRttMs: 20, queueMs: 50 },
  { rateMbps: 5, rttMs: [40, 40], rivalRttMs: 40, queueMs: 50 },
];

/** A link of the client to a bottleneck; a millisecond of jitter, lest drop-tail queues favour one phase. */
function leg(name: string, bottleneck: string, rttMs: number): PathSpec {
  const way: Partial<LinkConfig> = { delayUs: rttMs * 500, jitterUs: 1000 };
  return { name, up: way, down: way, bottleneck };
}

function core(rateMbps: number, queueMs: number) {
  const way: Partial<LinkConfig> = { rateBps: rateMbps * 1e6, queueBytes: (rateMbps * 1e6 * queueMs) / 8000 };
  return { up: way, down: way };
}

const download = (congestion: string, paths: readonly string[], startUs = 0): Traffic => ({
  kind: 'bulk',
  heading: 'down',
  congestion,
  paths,
  mptcp: paths.length > 1,
  startUs,
});

const timing = { scheduler: 'min-rtt', warmupUs: 7e6, durationUs: 32e6 } as const;

/** What a connection of two subflows gets of its fair share beside one `rival` (each half of the bottleneck: 1). */
function shareOf(congestion: string, rival: string, situation: Situation, seed: number): number {
  const { rateMbps, rttMs, rivalRttMs, queueMs } = situation;
  const result = simulate({
    name: `${congestion} and ${rival}, RTT ${rttMs}, ${rivalRttMs} ms, queue ${queueMs} ms`,
    seed,
    bottlenecks: { core: core(rateMbps, queueMs) },
    paths: [leg('a', 'core', rttMs[0]), leg('b', 'core', rttMs[1]), leg('rival', 'core', rivalRttMs)],
    traffic: [download(congestion, ['a', 'b']), download(rival, ['rival'])],
    ...timing,
    // A slower link loses in as many segments: in all, tens of losses and as many bytes.
    durationUs: timing.warmupUs + (250 / rateMbps) * 1e6,
  });
  const [ours, theirs] = result.traffic.map(({ goodputBps }) => goodputBps) as [number, number];
  if (ours + theirs < 0.85e6 * rateMbps) throw new Error(`the bottleneck is not full: ${ours} + ${theirs} bit/s`);
  return ours / ((ours + theirs) / 2);
}

type Cells = readonly (string | number)[];
const HEADING: Cells = [
  'two subflows',
  'against',
  'Mbit/s',
  'RTT ms',
  'its RTT',
  'queue ms',
  ...SEEDS.map((s) => `seed ${s}`),
];

function compare(congestion: string, rival: string, s: Situation): { cells: Cells; shares: number[] } {
  const shares = SEEDS.map((seed) => shareOf(congestion, rival, s, seed));
  const cells = [
    congestion,
    rival,
    s.rateMbps,
    s.rttMs.join(' + '),
    s.rivalRttMs,
    s.queueMs,
    ...shares.map((x) => x.toFixed(2)),
  ];
  return { cells, shares };
}

function print(t: ExecutionContext, rows: readonly Cells[]): void {
  t.log(`\n${table(rows)}`);
}

for (const congestion of COUPLED)
  test(`${congestion}: two subflows take one TCP's share of a bottleneck`, (t) => {
    const rows: Cells[] = [HEADING];
    for (const situation of SITUATIONS) {
      const { cells, shares } = compare(congestion, 'reno', situation);
      rows.push(cells);
      for (const x of shares) t.true(x >= LEAST_SHARE && x <= MOST_SHARE, `${cells.join(' ')}: ${x}`);
    }
    // For information: an RFC 9438 sender as the rival.
    rows.push(compare(congestion, 'cubic', SITUATIONS[2]!).cells);
    print(t, rows);
  });

test('beside one TCP, two coupled subflows take its share of a bottleneck and two uncoupled ones more', (t) => {
  const [coupled, uncoupled] = ['lia', 'reno'].map((cc) => shareOf(cc, 'reno', SITUATIONS[3]!, 1)) as [number, number];
  t.log(`lia ${coupled.toFixed(2)}, reno ${uncoupled.toFixed(2)}`);
  t.true(coupled >= LEAST_SHARE && coupled < 1.15, `lia ${coupled}`);
  t.true(uncoupled > 1.2, `reno ${uncoupled}`);
});

test('uncoupled subflows take more than one share of a bottleneck: reno and cubic are for disjoint paths', (t) => {
  const rows: Cells[] = [HEADING];
  for (const congestion of ['reno', 'cubic']) {
    const { cells, shares } = compare(congestion, congestion, SITUATIONS[3]!);
    rows.push(cells);
    for (const x of shares) t.true(x > 1.2, `two flows against one: ${x}`);
  }
  print(t, rows);
});

// ---- disjoint paths

/** A connection over `paths` of two bottlenecks, beside so many TCPs on each. Bits per second: all, by path, of a rival. */
function disjoint(congestion: string, paths: readonly string[], rivals: readonly [number, number]) {
  const scenario: Scenario = {
    name: `${congestion} on ${paths} beside ${rivals}`,
    seed: 1,
    bottlenecks: { x: core(RATE_MBPS, 50), y: core(RATE_MBPS, 50) },
    paths: [leg('a', 'x', 20), leg('b', 'y', 20), leg('rival-x', 'x', 20), leg('rival-y', 'y', 20)],
    traffic: [
      download(congestion, paths),
      ...Array.from({ length: rivals[0] }, (_, i) => download('reno', ['rival-x'], i * 100_000)),
      ...Array.from({ length: rivals[1] }, (_, i) => download('reno', ['rival-y'], i * 100_000)),
    ],
    ...timing,
  };
  const { traffic, paths: links } = simulate(scenario);
  return { total: traffic[0]!.goodputBps, a: links[0]!.down.goodputBps, b: links[1]!.down.goodputBps };
}

/** The yardstick: a NewReno TCP in the connection's place. */
function singleTcp(path: string, rivals: readonly [number, number]): number {
  const key = `${path} ${rivals}`;
  const known = yardsticks.get(key) ?? disjoint('reno', [path], rivals).total;
  yardsticks.set(key, known);
  return known;
}
const yardsticks = new Map<string, number>();

for (const congestion of COUPLED)
  test(`${congestion}: two disjoint paths are both used, the congested one less (RFC 6356 goals 1 to 3)`, (t) => {
    const rows: Cells[] = [['rivals', 'connection', 'over a', 'over b', 'a TCP on a', 'a TCP on b']];
    const measure = (rivals: readonly [number, number]) => {
      const both = disjoint(congestion, ['a', 'b'], rivals);
      const onA = singleTcp('a', rivals);
      const onB = singleTcp('b', rivals);
      rows.push([rivals.join(' + '), ...[both.total, both.a, both.b, onA, onB].map(mbps)]);
      return { ...both, onA, onB };
    };

    const idle = measure([0, 0]);
    t.true(idle.total > 0.95 * (idle.onA + idle.onB), 'two idle paths: their sum');

    const unequal = measure([1, 3]);
    t.true(unequal.total > 0.8 * unequal.onA, 'goal 1: no worse than a TCP on the best path');
    t.true(
      unequal.a < MOST_SHARE * unequal.onA && unequal.b < MOST_SHARE * unequal.onB,
      'goal 2: no path more than a TCP',
    );
    t.true(unequal.b < 0.6 * unequal.onB, 'goal 3: off the congested path');
    t.true(unequal.b > 0.1 * unequal.onB, 'and yet in use there');

    const oneFree = measure([1, 0]);
    t.true(oneFree.total > 0.98 * oneFree.onB, 'goal 1');
    t.true(oneFree.a < 0.7 * oneFree.onA, 'goal 3: the free path carries it');
    print(t, rows);
  });

test('lia: when one path dies, the other is a TCP by itself', (t) => {
  const result = simulate({
    name: 'lia, one of two paths dies',
    seed: 1,
    bottlenecks: { x: core(RATE_MBPS, 50), y: core(RATE_MBPS, 50) },
    paths: [leg('a', 'x', 20), leg('b', 'y', 20), leg('rival-x', 'x', 20)],
    traffic: [download('lia', ['a', 'b']), download('reno', ['rival-x'])],
    timeline: [{ atUs: 5e6, path: 'b', what: 'dies' }],
    ...timing,
  });
  const [ours, theirs] = result.traffic.map(({ goodputBps }) => goodputBps) as [number, number];
  const share = ours / ((ours + theirs) / 2);
  t.log(`share ${share.toFixed(2)}`);
  t.true(share >= LEAST_SHARE && share <= MOST_SHARE, `${share}`);
});
