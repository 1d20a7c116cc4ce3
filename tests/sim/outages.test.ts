/** Outages at awkward moments, each with a budget; what happens every day is in the catalogue (src/sim/catalogue). */
import test from 'ava';
import { path, type Scenario } from '../../src/sim/scenario.js';
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

const scenarios: readonly Scenario[] = [
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
    name: 'one link only, silent for two seconds',
    paths: [WIFI],
    timeline: [
      { atUs: 2 * S, path: 'wifi', what: 'dies' },
      { atUs: 4 * S, path: 'wifi', what: 'returns' },
    ],
    budget: { maxGapUs: 4 * S, minGoodputBps: 20e6, isMptcp: true },
  },
  ...[[WIFI], [WIFI, LTE]].map(
    (paths): Scenario => ({
      ...base,
      name: `a download over ${paths.length} of one subflow each, and the server's only address in use goes unsaid`,
      paths,
      maxPathsPerLink: 1,
      timeline: [
        { atUs: 2 * S, what: 'server-gains' },
        { atUs: 4 * S, what: 'server-loses', which: 'first' },
      ],
      // 300 ms of silence, three questions, 300 ms of grace, a join.
      budget: { maxGapUs: 1200 * MS, minGoodputBps: paths.length === 1 ? 38e6 : 60e6, isMptcp: true },
    }),
  ),
];

for (const scenario of scenarios)
  test(scenario.name, (t) => {
    t.log(summary(assertScenario(t, scenario)).join('\n'));
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
