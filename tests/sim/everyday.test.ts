/** Everyday mixtures: recorded links, IPv6, NATs that forget, backups, small requests beside bulk, and doing nothing. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { parseIp } from '../../src/core/base/ip.js';
import { Nat } from '../../src/sim/middleboxes/index.js';
import { confinedTo, type PathSpec, path, percentile, type Scenario } from '../../src/sim/scenario.js';
import { parseTrace } from '../../src/sim/trace.js';
import { assertScenario, simulate, summary } from '../support/sim-run.js';

const MS = 1000;
const S = 1_000_000;
const WIFI = path('wifi', 50, 10);
const LTE = path('lte', 30, 30);
const base = {
  seed: 1,
  paths: [WIFI, LTE],
  traffic: [{ kind: 'bulk', heading: 'down' }],
  durationUs: 10 * S,
} as const satisfies Partial<Scenario>;

function driving(): PathSpec {
  const trace = (way: string) => parseTrace(readFileSync(`tests/fixtures/traces/lte-driving-a.${way}`, 'utf8'));
  const direction = (way: string) => ({ trace: trace(way), delayUs: 25 * MS, queueBytes: 150_000 });
  return { name: 'lte', up: direction('up'), down: direction('down') };
}

test('a recorded LTE link beside a slow line: bonding helps, and the collapse at 22 s is survived', (t) => {
  const scenario: Scenario = {
    ...base,
    name: 'lte trace + dsl',
    paths: [driving(), path('dsl', 6, 15)],
    durationUs: 40 * S,
    warmupUs: 2 * S,
    budget: { isMptcp: true, maxGapUs: 1 * S },
  };
  const both = assertScenario(t, scenario);
  t.log(summary(both).join('\n'));
  const alone = scenario.paths.map(({ name }) => simulate(confinedTo(scenario, name)).traffic[0]!.goodputBps);
  t.log(`alone ${alone.join(' and ')} bit/s, both ${both.traffic[0]!.goodputBps} bit/s`);
  t.true(both.traffic[0]!.goodputBps >= 0.99 * Math.max(...alone));
});

test('IPv6 on one path, IPv4 on the other', (t) => {
  const result = assertScenario(t, {
    ...base,
    name: 'IPv6 + IPv4',
    paths: [{ ...WIFI, family: 6 }, LTE],
    warmupUs: 3 * S,
    budget: { minGoodputBps: 72e6, isMptcp: true },
  });
  t.log(summary(result).join('\n'));
});

for (const paths of [[WIFI], [WIFI, LTE]])
  test(`a NAT forgets in mid-transfer, ${paths.length} path(s)`, (t) => {
    const result = assertScenario(t, {
      ...base,
      name: `NAT rebinding, ${paths.length} paths`,
      paths: paths.map((p, i) => ({ ...p, middleboxes: () => [new Nat(parseIp(`192.0.2.${i + 1}`).bytes)] })),
      traffic: [{ kind: 'bulk', heading: 'up', bytes: 20_000_000 }],
      timeline: [{ atUs: 1.5 * S, path: 'wifi', what: 'rebinds' }],
      budget: { completeByUs: 9 * S, maxGapUs: paths.length === 1 ? 1500 * MS : 400 * MS, isMptcp: true },
    });
    t.log(summary(result).join('\n'));
  });

test('a backup carries nothing until the regular path is gone, and nothing again when it is back', (t) => {
  const result = assertScenario(t, {
    ...base,
    name: 'backup',
    paths: [WIFI, { ...LTE, role: 'backup' }],
    timeline: [
      { atUs: 3 * S, path: 'wifi', what: 'dies' },
      { atUs: 6 * S, path: 'wifi', what: 'returns' },
    ],
    durationUs: 12 * S,
    warmupUs: 8 * S,
    budget: { maxGapUs: 600 * MS, minGoodputBps: 40e6, isMptcp: true },
  });
  t.log(summary(result).join('\n'));
  const [, lte] = result.paths;
  t.true(lte!.down.deliveredBytes > 8e6, 'it carried three seconds of the transfer');
  t.true(lte!.down.goodputBps < 0.2e6, 'and is idle again');
});

test('small requests beside a bulk upload keep their latency', (t) => {
  const scenario: Scenario = {
    ...base,
    name: 'requests beside an upload',
    traffic: [
      { kind: 'bulk', heading: 'up' },
      {
        kind: 'request-response',
        requestBytes: 200,
        responseBytes: 1000,
        everyUs: 100 * MS,
        count: 80,
        startUs: 1 * S,
      },
    ],
    budget: { minGoodputBps: 65e6, maxResponseP95Us: 120 * MS, isMptcp: true },
  };
  const result = assertScenario(t, scenario);
  const responses = result.traffic[1]!.responsesUs;
  t.log(`p50 ${percentile(responses, 0.5)} us, p95 ${percentile(responses, 0.95)} us; ${summary(result).join('\n')}`);
  t.true(percentile(responses, 0.5) <= 70 * MS);
});

test('connections that are idle, or closed on one side, are silent', (t) => {
  const scenario: Scenario = {
    ...base,
    name: 'idle',
    traffic: [
      { kind: 'request-response', requestBytes: 100, responseBytes: 100, everyUs: 100 * MS, count: 1 },
      { kind: 'bulk', heading: 'down', bytes: 20_000 },
      { kind: 'bulk', heading: 'up', bytes: 20_000 },
      { kind: 'idle' },
    ],
    durationUs: 600 * S,
  };
  const result = assertScenario(t, scenario);
  t.log(summary(result).join('\n'));
  const packets = result.paths.reduce((sum, { up, down }) => sum + up.deliveredPackets + down.deliveredPackets, 0);
  t.true(packets < 250, `${packets} packets in ten minutes`);
  t.true(result.wakes < 400, `${result.wakes} wake-ups in ten minutes`);
});
