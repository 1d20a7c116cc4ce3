/** Paths that carry less than 1500 bytes and do not say so (RFC 4821; RFC 2923 2.1): found, used in full, data intact. */
import test from 'ava';
import { path, type Scenario, violations } from '../../src/sim/scenario.js';
import { report, simulate } from '../support/sim-run.js';

const narrow = { both: { mtuBytes: 1300 } };

test('U4: one path that drops what exceeds 1300 bytes: found within seconds, used in full', (t) => {
  const scenario: Scenario = {
    name: 'black hole alone',
    seed: 1,
    paths: [path('lte', 20, 20, narrow)],
    traffic: [{ kind: 'bulk', heading: 'up' }],
    warmupUs: 8_000_000,
    durationUs: 16_000_000,
  };
  const result = simulate(scenario);
  const { goodputBps } = result.traffic[0]!;
  const broken = violations(result);
  if (goodputBps < 0.88 * 20e6) broken.push(`goodput ${goodputBps}`);
  if (broken.length > 0) t.log(report(t, result, broken));
  t.deepEqual(broken, []);
});

test('U5, U6: paths of 1500 and of 1300 bytes, the latter a black hole: both are used, and the bytes are those sent', (t) => {
  const scenario: Scenario = {
    name: 'black hole beside a good path',
    seed: 1,
    paths: [path('wifi', 20, 10), path('lte', 20, 20, narrow)],
    traffic: [{ kind: 'bulk', heading: 'up' }],
    warmupUs: 10_000_000,
    durationUs: 20_000_000,
  };
  const result = simulate(scenario);
  const { goodputBps } = result.traffic[0]!;
  const broken = violations(result);
  if (goodputBps < 0.85 * 40e6) broken.push(`goodput ${goodputBps}`);
  if (broken.length > 0) t.log(report(t, result, broken));
  t.deepEqual(broken, []);
});
