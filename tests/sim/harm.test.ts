/** Do no harm (DESIGN 3.5): demotion, penalisation and opportunistic reinjection, and how few bytes go twice. */
import test from 'ava';
import { confinedTo, type PathSpec, path, type Scenario } from '../../src/sim/scenario.js';
import { assertScenario, mbps, simulate, summary, table } from '../support/sim-run.js';

const S = 1_000_000;

const base: Omit<Scenario, 'name' | 'paths'> = {
  seed: 1,
  traffic: [{ kind: 'bulk', heading: 'down' }],
  durationUs: 16 * S,
};

test('a path that makes all slower than the best one alone is demoted, with a reason, and tried again', (t) => {
  // What the slow path brings, late as it is, fills the peer's small window.
  const scenario: Scenario = {
    ...base,
    name: 'min-rtt over 5/30 + 1/50 joined late, window 24 KB',
    scheduler: 'min-rtt',
    receiveBufferBytes: 24_000,
    paths: [path('wifi', 5, 30), path('lte', 1, 50, { startsDown: true })],
    timeline: [{ atUs: 3 * S, path: 'lte', what: 'carrier-back' }],
    warmupUs: 10 * S,
    durationUs: 20.5 * S,
  };
  const result = assertScenario(t, scenario);
  const alone = simulate(confinedTo(scenario, 'wifi'));
  t.log(summary(result).join('\n'));
  const verdicts = result.events.filter((e) => /server subflow-(demoted|promoted)/.test(e));
  t.log(verdicts.join('\n'));
  t.regex(verdicts[0]!, /subflow-demoted .*why=together [\d.]+ Mbit\/s, the best path alone [\d.]+/);
  t.regex(verdicts[1]!, /subflow-promoted .*why=tried again/);
  t.true(result.serverCounters.path_demoted! >= 1);
  const [ours, best] = [result.traffic[0]!.goodputBps, alone.traffic[0]!.goodputBps];
  t.true(ours > 0.85 * best, `${mbps(ours)} of ${mbps(best)} Mbit/s, the trials included`);
});

test('what blocks the window goes again on the quick path, and the slow one is penalised', (t) => {
  const result = assertScenario(t, {
    ...base,
    name: 'min-rtt over 10/5 + 1/150, window 80 KB',
    scheduler: 'min-rtt',
    receiveBufferBytes: 80_000,
    paths: [path('wifi', 10, 5), path('lte', 1, 150)],
    durationUs: 4 * S,
  });
  const { window_unblocked, path_penalised } = result.serverCounters;
  t.log(
    `${window_unblocked} times unblocked, ${path_penalised} penalties, ${mbps(result.traffic[0]!.goodputBps)} Mbit/s`,
  );
  t.true(window_unblocked! > 0);
  t.true(path_penalised! > 0);
  t.true(path_penalised! <= (4 * S) / 300_000 + 1, 'at most once in its RTT');
});

test('what is late on a slow path goes again on the quick one at once', (t) => {
  const result = assertScenario(t, {
    ...base,
    name: '40/5 + 20/40, whose radio pauses for 220 ms',
    paths: [path('wifi', 40, 5), path('lte', 20, 40)],
    timeline: [
      { atUs: 3 * S, path: 'lte', what: 'pauses' },
      { atUs: 3.22 * S, path: 'lte', what: 'resumes' },
    ],
    durationUs: 4 * S,
  });
  const { longestGapUs, longestGapAtUs } = result.traffic[0]!;
  t.log(`longest gap ${longestGapUs} us at ${longestGapAtUs}`, JSON.stringify(result.serverCounters));
  t.true(result.serverCounters.head_unblocked! > 0);
  t.true(longestGapUs < 110_000, `${longestGapUs} us`);
});

const STEADY: readonly (readonly [string, PathSpec, PathSpec])[] = [
  ['50/10 + 30/30', path('wifi', 50, 10), path('lte', 30, 30)],
  ['50/5 + 5/150', path('wifi', 50, 5), path('lte', 5, 150)],
  ['100/5 0.5 % + 20/40 500 ms', path('wifi', 100, 5, { lossRate: 0.005 }), path('lte', 20, 40, { queueMs: 500 })],
];

test('in steady state less than 1 % of the bytes arrive twice', (t) => {
  const rows = STEADY.map(([name, a, b]) => {
    const { duplicateBytes, deliveredBytes, reinjectedBytes } = assertScenario(t, {
      ...base,
      name,
      paths: [a, b],
      durationUs: 6 * S,
    }).traffic[0]!;
    t.true(duplicateBytes < 0.01 * deliveredBytes, `${name}: ${duplicateBytes} of ${deliveredBytes}`);
    const percent = (bytes: number) => ((100 * bytes) / deliveredBytes).toFixed(2);
    return [name, deliveredBytes, percent(duplicateBytes), percent(reinjectedBytes)];
  });
  t.log(`\n${table([['links', 'bytes', 'twice %', 'reinjected %'], ...rows])}`);
});
