/**
 * A path that is left while it works (announced handover, DESIGN 3.4): one that is quick to the end is simply left; of one
 * that has become slow or loses, what would keep the rest waiting goes again on the others. WiFi is 50 Mbit/s and 10 ms, LTE
 * 30 Mbit/s and 30 ms one way, each with a drop-tail queue of 100 ms.
 */
import test from 'ava';
import { fade } from '../../src/sim/catalogue/timelines.js';
import { path, type Scenario } from '../../src/sim/scenario.js';
import { assertScenario, summary } from '../support/sim-run.js';

const MS = 1000;
const S = 1_000_000;
const WIFI_BPS = 50e6;

const base = {
  paths: [path('wifi', 50, 10), path('lte', 30, 30)],
  traffic: [{ kind: 'bulk', heading: 'down' }],
  scheduler: 'adaptive',
  warmupUs: 1.5 * S,
  durationUs: 4.2 * S,
} as const satisfies Partial<Scenario>;

for (const heading of ['down', 'up'] as const) {
  const traffic = [{ kind: 'bulk', heading }] as const;

  test(`${heading}: both carry data, the quick one is left: no gap above 30 ms, and nothing goes again`, (t) => {
    for (let seed = 1; seed <= 3; seed++) {
      const leftUs = 2 * S + seed * 17 * MS;
      assertScenario(t, {
        ...base,
        name: `left while quick, ${heading}`,
        seed,
        traffic,
        durationUs: 3 * S,
        timeline: [
          { atUs: leftUs, path: 'wifi', what: 'fades' },
          { atUs: leftUs + 500 * MS, path: 'wifi', what: 'dies' },
        ],
        budget: { maxGapUs: 30 * MS, maxReinjectedBytes: 0, isMptcp: true },
      });
    }
  });

  test(`${heading}: rate falls and loss grows until the link is left: its losses keep nothing waiting for its queue`, (t) => {
    const gapsUs: number[] = [];
    for (let seed = 1; seed <= 4; seed++) {
      const result = assertScenario(t, {
        ...base,
        name: `fades within 3 s, ${heading}`,
        seed,
        traffic,
        timeline: fade('wifi', WIFI_BPS, 2 * S, 5 * S),
        budget: { maxGapUs: 100 * MS, maxReinjectedBytes: 250_000, isMptcp: true },
      });
      t.log(summary(result)[0]!);
      gapsUs.push(result.traffic[0]!.longestGapUs);
    }
    gapsUs.sort((a, b) => a - b);
    t.true(gapsUs[1]! <= 62 * MS, `${gapsUs}`);
  });
}
