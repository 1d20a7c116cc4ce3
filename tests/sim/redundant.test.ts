/** Scheduler `redundant`: copies of all bytes on every usable path, the first one wins. */
import test from 'ava';
import { confinedTo, path, percentile, type Scenario } from '../../src/sim/scenario.js';
import { assertScenario, simulate, summary } from '../support/sim-run.js';

const S = 1_000_000;

const base: Omit<Scenario, 'name' | 'paths'> = {
  seed: 1,
  scheduler: 'redundant',
  traffic: [{ kind: 'bulk', heading: 'down' }],
  warmupUs: 1 * S,
  durationUs: 5 * S,
};

test('redundant: a slow path does not hold back a quick one, and carries only what is not delivered yet', (t) => {
  const scenario: Scenario = {
    ...base,
    name: 'redundant, 20/10 + 2/150',
    paths: [path('wifi', 20, 10), path('lte', 2, 150)],
  };
  const both = assertScenario(t, scenario);
  const alone = simulate(confinedTo(scenario, 'wifi'));
  const [ours, best] = [both.traffic[0]!, alone.traffic[0]!];
  t.log(summary(both).join('\n'));
  t.true(ours.goodputBps >= 0.99 * best.goodputBps, `${ours.goodputBps} of ${best.goodputBps}`);
  t.true(ours.copiedBytes > 500_000, `${ours.copiedBytes} bytes of copies`);
  t.true(ours.copiedBytes < (2e6 / 8) * 5 * 1.2, 'what the slow path takes, and no more');
  t.true(ours.duplicateBytes > 0.5 * ours.copiedBytes, 'and they all come second');
  t.is(ours.reinjectedBytes, 0, 'reinjections are copies: none besides');
  t.true(both.serverCounters.redundant_skipped_bytes! > 5_000_000, 'delivered bytes are skipped');
  t.is(both.serverCounters.redundant_copied_bytes, ours.copiedBytes);
  t.true(both.clientCounters.MPTcpExtDuplicateData! > 100);
});

test('redundant: on paths alike everything is sent twice, and the rate is that of one', (t) => {
  const both = assertScenario(t, {
    ...base,
    name: 'redundant, alike',
    paths: [path('wifi', 10, 20), path('lte', 10, 20)],
  });
  const { goodputBps, copiedBytes, deliveredBytes } = both.traffic[0]!;
  t.true(goodputBps > 9e6 && goodputBps < 10e6, `${goodputBps}`);
  t.true(copiedBytes > 0.9 * deliveredBytes && copiedBytes < 1.1 * deliveredBytes, `${copiedBytes} ${deliveredBytes}`);
});

test('redundant: a path that dies silently is not noticed by the reader', (t) => {
  for (const dying of ['wifi', 'lte']) {
    const result = assertScenario(t, {
      ...base,
      name: `redundant, ${dying} dies`,
      paths: [path('wifi', 10, 20), path('lte', 10, 20)],
      timeline: [
        { atUs: 2 * S, path: dying, what: 'dies' },
        { atUs: 3.5 * S, path: dying, what: 'returns' },
      ],
      // Bytes that only the dead path had, on the other one: a round trip and its queue.
      budget: { maxGapUs: 60_000 },
    });
    t.log(`${dying}: longest gap ${result.traffic[0]!.longestGapUs} us`);
  }
});

test('redundant: losses on either path do not delay requests', (t) => {
  const scenario = (scheduler: string): Scenario => ({
    ...base,
    name: `${scheduler}, lossy`,
    scheduler,
    paths: [path('wifi', 20, 10, { lossRate: 0.05 }), path('lte', 20, 15, { lossRate: 0.05 })],
    traffic: [{ kind: 'request-response', requestBytes: 300, responseBytes: 3000, everyUs: 20_000, count: 300 }],
    durationUs: 20 * S,
  });
  const p95 = (s: Scenario) => percentile(simulate(s).traffic[0]!.responsesUs, 0.95);
  const [redundant, single] = [p95(scenario('redundant')), p95(scenario('min-rtt'))];
  t.log(`p95 ${redundant} us; min-rtt ${single} us`);
  t.true(redundant < 40_000 && redundant < 0.7 * single, `${redundant} ${single}`);
});

test('redundant: a backup carries copies only once no regular path is usable (RFC 8684 3.3.8)', (t) => {
  const result = assertScenario(t, {
    ...base,
    name: 'redundant, backup',
    paths: [path('wifi', 10, 20), path('lte', 10, 20, { role: 'backup' })],
    traffic: [{ kind: 'bulk', heading: 'down', bytes: 3_000_000 }],
    timeline: [{ atUs: 1 * S, path: 'wifi', what: 'dies' }],
    durationUs: 10 * S,
    budget: { completeByUs: 6 * S },
  });
  t.true(result.traffic[0]!.copiedBytes < 500_000, 'only what was in flight');
});
