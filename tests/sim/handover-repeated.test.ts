/**
 * A path that has been away again and again is worth as much as before once it is back, although all that its end measured
 * lately was single retransmissions into nothing. WiFi is 50 Mbit/s and 10 ms, LTE 30 Mbit/s and 30 ms one way.
 */
import test from 'ava';
import { BIN_US, path, type Scenario, type Step, violations } from '../../src/sim/scenario.js';
import { report, simulate } from '../support/sim-run.js';

const S = 1_000_000;
const WIFI = path('wifi', 50, 10);
const LTE = path('lte', 30, 30);

/** Mbit/s that path `index` delivered in the `lengthS` seconds from `fromS` on. */
function share(
  result: ReturnType<typeof simulate>,
  index: number,
  heading: 'up' | 'down',
  fromS: number,
  lengthS: number,
) {
  const perS = S / BIN_US;
  const bins = result.paths[index]![heading].bins.slice(fromS * perS, (fromS + lengthS) * perS);
  return (8 * bins.reduce((sum, n) => sum + n, 0)) / lengthS / 1e6;
}

interface Repeated {
  readonly what: 'carrier-lost' | 'dies' | 'dies-up';
  readonly heading: 'up' | 'down';
  readonly everyS: number;
  readonly awayS: number;
  readonly times: number;
}

const repeated: readonly Repeated[] = [
  { what: 'carrier-lost', heading: 'down', everyS: 0.6, awayS: 0.3, times: 20 },
  { what: 'dies-up', heading: 'up', everyS: 0.6, awayS: 0.3, times: 6 },
  { what: 'dies', heading: 'down', everyS: 3, awayS: 1.8, times: 3 },
];

for (const { what, heading, everyS, awayS, times } of repeated)
  test(`WiFi ${what} ${times} times in a row, ${heading}: has its whole share a second after the last time`, (t) => {
    const back = what === 'carrier-lost' ? 'carrier-back' : 'returns';
    const backS = 2 + (times - 1) * everyS + awayS;
    const timeline = Array.from({ length: times }, (_, i): Step[] => [
      { atUs: Math.round((2 + i * everyS) * S), path: 'wifi', what },
      { atUs: Math.round((2 + i * everyS + awayS) * S), path: 'wifi', what: back },
    ]).flat();
    const scenario: Scenario = {
      name: `wifi ${what} ${times} times, ${heading}`,
      seed: 1,
      paths: [WIFI, LTE],
      traffic: [{ kind: 'bulk', heading }],
      timeline,
      durationUs: Math.ceil(backS + 2) * S,
    };
    const result = simulate(scenario);
    const wifi = share(result, 0, heading, Math.ceil(10 * backS) / 10 + 1, 0.9);
    t.log(`${wifi.toFixed(1)} Mbit/s over WiFi in the second second after its return`);
    const broken = violations(result);
    if (wifi < 0.9 * 50) broken.push(`${wifi} Mbit/s over WiFi`);
    if (broken.length > 0) t.fail(report(t, result, broken));
    else t.pass();
  });

for (const heading of ['up', 'down'] as const)
  for (const mtuBytes of [1300, 1100])
    test(`LTE swallows what exceeds ${mtuBytes} bytes from the start, ${heading}: in full use within three seconds`, (t) => {
      const scenario: Scenario = {
        name: `black hole of ${mtuBytes} from the start, ${heading}`,
        seed: 1,
        paths: [WIFI, path('lte', 30, 20, { both: { mtuBytes } })],
        traffic: [{ kind: 'bulk', heading }],
        durationUs: 4 * S,
      };
      const result = simulate(scenario);
      const lte = share(result, 1, heading, 3, 1);
      t.log(`${lte.toFixed(1)} Mbit/s over LTE in the fourth second`);
      const broken = violations(result);
      if (lte < 0.85 * 30) broken.push(`${lte} Mbit/s over LTE`);
      if (broken.length > 0) t.fail(report(t, result, broken));
      else t.pass();
    });
