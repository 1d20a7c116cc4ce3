/** Receivers with little room: whatever fills it, the next in-order byte is always taken (DESIGN 2, "never wedge"). */
import test from 'ava';
import { Splitter } from '../../src/sim/middleboxes/index.js';
import { path, type Scenario } from '../../src/sim/scenario.js';
import { assertScenario, summary } from '../support/sim-run.js';

const S = 1_000_000;

const base: Omit<Scenario, 'name'> = {
  seed: 1,
  scheduler: 'round-robin',
  receiveBufferBytes: 65_536,
  paths: [path('wifi', 50, 5), path('lte', 5, 150)],
  traffic: [{ kind: 'bulk', heading: 'down', bytes: 2_000_000 }],
  durationUs: 60 * S,
  budget: { completeByUs: 10 * S },
};

const scenarios: readonly Scenario[] = [
  { ...base, name: 'a small buffer, and a scheduler that fills it with bytes out of order' },
  {
    ...base,
    name: 'a small buffer, loss on both paths',
    paths: [path('wifi', 50, 5, { lossRate: 0.02 }), path('lte', 5, 150, { lossRate: 0.02 })],
  },
  {
    ...base,
    name: 'a small buffer, and the path with the missing bytes dies',
    timeline: [{ atUs: 1.5 * S, path: 'lte', what: 'dies' }],
  },
  {
    ...base,
    name: 'a small buffer, and small segments that cost more than they carry',
    paths: [path('wifi', 20, 5, { lossRate: 0.01, middleboxes: () => [new Splitter(64)] }), path('lte', 5, 150)],
    traffic: [{ kind: 'bulk', heading: 'down', bytes: 500_000 }],
  },
  {
    ...base,
    name: 'a reader that pauses for three seconds, window closed, on lossy paths',
    paths: [path('wifi', 50, 5, { lossRate: 0.01 }), path('lte', 5, 50, { lossRate: 0.01 })],
    readerPause: { fromUs: 0.5 * S, untilUs: 3.5 * S },
  },
  {
    ...base,
    name: 'a reader that pauses, and a path dies while the window is closed',
    readerPause: { fromUs: 0.5 * S, untilUs: 4.5 * S },
    timeline: [{ atUs: 2 * S, path: 'wifi', what: 'dies' }],
  },
];

for (const scenario of scenarios)
  test(scenario.name, (t) => {
    t.log(summary(assertScenario(t, scenario)).join('\n'));
  });
