/**
 * Make before break and dead-path detection (DESIGN 3.4), over the real engine and path manager: order, gaps, and what does
 * not cause a handover. WiFi is 50 Mbit/s and 10 ms, LTE 30 Mbit/s and 30 ms one way.
 */
import test from 'ava';
import { path, type Scenario, type ScenarioResult } from '../../src/sim/scenario.js';
import { assertScenario, summary } from '../support/sim-run.js';

const MS = 1000;
const S = 1_000_000;
const BOTH = [path('wifi', 50, 10), path('lte', 30, 30)];

const base = {
  seed: 1,
  paths: BOTH,
  traffic: [{ kind: 'bulk', heading: 'down' }],
  warmupUs: 0,
  durationUs: 5 * S,
} as const satisfies Partial<Scenario>;

const transitions = (result: ScenarioResult) => result.events.filter((e) => e.includes('→'));
const first = (result: ScenarioResult, ...parts: string[]) => {
  const at = result.events.findIndex((e) => parts.every((part) => e.includes(part)));
  return at < 0 ? Number.POSITIVE_INFINITY : at;
};

for (const heading of ['down', 'up'] as const) {
  test(`handover, ${heading}: WiFi fades; LTE, warm already, takes over before WiFi rests; no gap above 30 ms and nothing is sent twice`, (t) => {
    const result = assertScenario(t, {
      ...base,
      name: `fading in handover mode, ${heading}`,
      mode: 'handover',
      traffic: [{ kind: 'bulk', heading }],
      timeline: [
        { atUs: 2 * S, path: 'wifi', what: 'fades' },
        { atUs: 2.5 * S, path: 'wifi', what: 'dies' },
      ],
      budget: { maxGapUs: 30 * MS, maxReinjectedBytes: 0, isMptcp: true },
    });
    t.log(summary(result).join('\n'));
    t.log(transitions(result).join('\n'));
    const warm = first(result, 'lte: joining → warm');
    const used = first(result, 'lte: warm → active');
    const rested = first(result, 'wifi: active → warm');
    t.true(warm < used && used < rested && rested < Number.POSITIVE_INFINITY, 'warm, then used, then the other rests');
  });

  test(`a silent cut, ${heading}: found without a timeout, what was on its way goes again at once`, (t) => {
    const result = assertScenario(t, {
      ...base,
      name: `silent cut, ${heading}`,
      traffic: [{ kind: 'bulk', heading }],
      timeline: [{ atUs: 2 * S, path: 'wifi', what: 'dies' }],
      budget: { maxGapUs: 110 * MS, isMptcp: true },
    });
    t.log(summary(result)[0]!);
    const sender = heading === 'down' ? 'server' : 'client';
    const stalled = result.events.find((e) => e.includes(`${sender} subflow-stalled`))!;
    t.true(stalled.includes('no acknowledgment'), stalled);
    t.true(Number(stalled.split(' ')[0]) < 2.12 * S, stalled);
  });
}

test('carrier lost: told to the server first thing on the other link, the gap is that of the way', (t) => {
  const result = assertScenario(t, {
    ...base,
    name: 'carrier lost',
    timeline: [{ atUs: 2 * S, path: 'wifi', what: 'carrier-lost' }],
    budget: { maxGapUs: 80 * MS, isMptcp: true },
  });
  t.log(summary(result)[0]!);
});

test('radio pauses of 100 to 250 ms switch nothing: no path changes its state, no subflow is replaced', (t) => {
  const pauses = [100, 150, 200, 250];
  const result = assertScenario(t, {
    ...base,
    name: 'scanning',
    timeline: pauses.flatMap((ms, i) => [
      { atUs: (i + 1) * S, path: 'wifi', what: 'pauses' as const },
      { atUs: (i + 1) * S + ms * MS, path: 'wifi', what: 'resumes' as const },
    ]),
    budget: { maxGapUs: 250 * MS, minGoodputBps: 50e6, isMptcp: true },
  });
  t.log(summary(result)[0]!);
  const later = transitions(result).filter((e) => Number(e.split(' ')[0]) >= 1 * S);
  t.deepEqual(later, []);
  t.false(result.events.some((e) => e.includes('subflow-closed') && !e.includes('subflowId=-1')));
});
