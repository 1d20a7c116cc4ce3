/** The handover catalogue: links that die, with and without notice, return, flap and pause, each with a budget. */
import test from 'ava';
import { path, type Scenario, type Step } from '../../src/sim/scenario.js';
import { assertScenario, summary } from '../support/sim-run.js';

const MS = 1000;
const S = 1_000_000;
const WIFI = path('wifi', 50, 10);
const LTE = path('lte', 30, 30);

const base = {
  seed: 1,
  paths: [WIFI, LTE],
  traffic: [{ kind: 'bulk', heading: 'down' }],
  warmupUs: 0,
  durationUs: 10 * S,
} as const satisfies Partial<Scenario>;

const flapping = (from: number, everyMs: number, times: number): Step[] =>
  Array.from({ length: times }, (_, i) => [
    { atUs: from + i * everyMs * MS, path: 'wifi', what: 'carrier-lost' as const },
    { atUs: from + (i * everyMs + everyMs / 2) * MS, path: 'wifi', what: 'carrier-back' as const },
  ]).flat();

const scenarios: readonly Scenario[] = [
  {
    ...base,
    name: 'WiFi dies silently in a download',
    timeline: [{ atUs: 3 * S, path: 'wifi', what: 'dies' }],
    budget: { maxGapUs: 600 * MS, minPathBytes: { lte: 20e6 }, isMptcp: true },
  },
  {
    ...base,
    name: 'WiFi dies silently in an upload',
    traffic: [{ kind: 'bulk', heading: 'up' }],
    timeline: [{ atUs: 3 * S, path: 'wifi', what: 'dies' }],
    budget: { maxGapUs: 600 * MS, minPathBytes: { lte: 20e6 }, isMptcp: true },
  },
  {
    ...base,
    name: 'WiFi loses its carrier in an upload',
    traffic: [{ kind: 'bulk', heading: 'up' }],
    timeline: [{ atUs: 3 * S, path: 'wifi', what: 'carrier-lost' }],
    budget: { maxGapUs: 200 * MS, minPathBytes: { lte: 20e6 }, isMptcp: true },
  },
  {
    ...base,
    name: 'WiFi loses its carrier in a download (the server is not told)',
    timeline: [{ atUs: 3 * S, path: 'wifi', what: 'carrier-lost' }],
    budget: { maxGapUs: 600 * MS, minPathBytes: { lte: 20e6 }, isMptcp: true },
  },
  {
    ...base,
    name: 'the first link dies while the second is being joined',
    timeline: [{ atUs: 50 * MS, path: 'wifi', what: 'dies' }],
    budget: { maxGapUs: 1500 * MS, minPathBytes: { lte: 20e6 } },
  },
  {
    ...base,
    name: 'the second link never answers the join',
    timeline: [{ atUs: 0, path: 'lte', what: 'dies' }],
    budget: { minGoodputBps: 44e6, maxGapUs: 200 * MS, isMptcp: true },
  },
  {
    ...base,
    name: 'both dark for five seconds (a tunnel)',
    timeline: (['wifi', 'lte'] as const).flatMap((name) => [
      { atUs: 2 * S, path: name, what: 'dies' as const },
      { atUs: 7 * S, path: name, what: 'returns' as const },
    ]),
    durationUs: 14 * S,
    budget: { maxGapUs: 7 * S, minPathBytes: { wifi: 30e6, lte: 20e6 }, isMptcp: true },
  },
  {
    ...base,
    name: 'both lose their carrier for five seconds',
    timeline: (['wifi', 'lte'] as const).flatMap((name) => [
      { atUs: 2 * S, path: name, what: 'carrier-lost' as const },
      { atUs: 7 * S, path: name, what: 'carrier-back' as const },
    ]),
    durationUs: 14 * S,
    budget: { maxGapUs: 5600 * MS, minPathBytes: { wifi: 30e6, lte: 20e6 }, isMptcp: true },
  },
  {
    ...base,
    name: 'WiFi pauses for 250 ms, again and again (a radio that scans)',
    timeline: [2, 4, 6, 8].flatMap((at) => [
      { atUs: at * S, path: 'wifi', what: 'pauses' as const },
      { atUs: at * S + 250 * MS, path: 'wifi', what: 'resumes' as const },
    ]),
    budget: { maxGapUs: 450 * MS, minGoodputBps: 50e6, isMptcp: true },
  },
  {
    ...base,
    name: 'WiFi flaps, its carrier with it',
    timeline: flapping(2 * S, 600, 6),
    budget: { maxGapUs: 800 * MS, minGoodputBps: 25e6, isMptcp: true },
  },
  {
    ...base,
    name: 'one link only, silent for two seconds',
    paths: [WIFI],
    timeline: [
      { atUs: 2 * S, path: 'wifi', what: 'dies' },
      { atUs: 4 * S, path: 'wifi', what: 'returns' },
    ],
    budget: { maxGapUs: 4 * S, minGoodputBps: 20e6, isMptcp: true },
  },
  {
    ...base,
    name: 'satellite and a slow line: the satellite dies',
    paths: [path('satellite', 20, 300, { queueMs: 600 }), path('dsl', 2, 20)],
    timeline: [{ atUs: 8 * S, path: 'satellite', what: 'dies' }],
    durationUs: 20 * S,
    budget: { maxGapUs: 3 * S, isMptcp: true },
  },
];

for (const scenario of scenarios)
  test(scenario.name, (t) => {
    t.log(summary(assertScenario(t, scenario)).join('\n'));
  });

for (const how of ['dies', 'carrier-lost'] as const)
  test(`WiFi ${how} for four seconds and carries data again within two`, (t) => {
    const back = how === 'dies' ? 'returns' : 'carrier-back';
    const scenario: Scenario = {
      ...base,
      name: `WiFi ${how} and ${back}`,
      timeline: [
        { atUs: 2 * S, path: 'wifi', what: how },
        { atUs: 6 * S, path: 'wifi', what: back },
      ],
      warmupUs: 8 * S,
      durationUs: 11 * S,
      budget: { maxGapUs: 600 * MS, minGoodputBps: 60e6, isMptcp: true },
    };
    const result = assertScenario(t, scenario);
    t.log(summary(result).join('\n'));
    t.true(result.paths[0]!.down.goodputBps > 20e6, 'WiFi carries data from two seconds after its return');
  });

test('an idle connection survives an outage and answers at once afterwards', (t) => {
  const result = assertScenario(t, {
    ...base,
    name: 'idle through an outage',
    traffic: [
      { kind: 'request-response', requestBytes: 200, responseBytes: 2000, everyUs: 6 * S, count: 2, startUs: 0 },
    ],
    timeline: [
      { atUs: 7 * S, path: 'wifi', what: 'dies' },
      { atUs: 7 * S, path: 'lte', what: 'dies' },
      { atUs: 11 * S, path: 'wifi', what: 'returns' },
      { atUs: 11 * S, path: 'lte', what: 'returns' },
    ],
    durationUs: 20 * S,
    budget: { completeByUs: 13 * S, maxResponseP95Us: 100 * MS },
  });
  t.log(summary(result).join('\n'));
});
