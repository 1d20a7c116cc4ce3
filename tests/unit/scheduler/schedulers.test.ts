/** What is particular to each scheduler, on the pairs of links that the tunnel is for. One-way delays. */
import test from 'ava';
import { Blest } from '../../../src/core/scheduler/blest.js';
import { schedulers } from '../../../src/core/scheduler/index.js';
import type { Scheduler } from '../../../src/core/scheduler/scheduler.js';
import { input, type PathSpec, path } from './paths.js';

const WIFI: PathSpec = { mbit: 50, delayMs: 10 };
const LTE: PathSpec = { mbit: 30, delayMs: 30 };
const QUICK: PathSpec = { mbit: 50, delayMs: 5 };
const SATELLITE: PathSpec = { mbit: 5, delayMs: 150 };

const create = (name: string): Scheduler => schedulers[name]!();

/**
 * Asks each millisecond for `ms` with the quick path full, and again when the slow one has been filled; how often each
 * answer was given to the first question in the last `tail` ms.
 */
function sustained(s: Scheduler, quick: PathSpec, slow: PathSpec, ms: number, tail: number, fromUs = 0) {
  const answers = new Map<number, number>();
  for (let i = 0; i < ms; i++) {
    const nowUs = fromUs + i * 1000;
    const ask = (isFull: boolean) =>
      s.select(
        input([path(0, { ...quick, isFull: true }), path(1, { ...slow, isFull })], { nowUs, pendingBytes: 13_000 }),
      );
    const chosen = ask(false);
    if (chosen === 1) ask(true);
    if (i >= ms - tail) answers.set(chosen, (answers.get(chosen) ?? 0) + 1);
  }
  return { slow: answers.get(1) ?? 0, wait: answers.get(-1) ?? 0 };
}

test('min-rtt: the lowest RTT with room', (t) => {
  const s = create('min-rtt');
  t.is(s.select(input([path(0, LTE), path(1, WIFI)])), 1);
  t.is(s.select(input([path(0, LTE), path(1, { ...WIFI, isFull: true })])), 0);
  t.is(s.select(input([path(0, WIFI), path(1, WIFI)])), 0, 'equals: the first');
});

test('round-robin: each path with room in its turn', (t) => {
  const s = create('round-robin');
  const three = input([path(0), path(1, SATELLITE), path(2)]);
  t.deepEqual([s.select(three), s.select(three), s.select(three), s.select(three)], [0, 1, 2, 0]);
  t.is(s.select(input([path(0), path(1, { isFull: true }), path(2)])), 2, 'passes over what is full');
});

test('blest: waits if X > |M| - MSS_s (inflight_s + 1), X = MSS_f (CWND_f + (rtts - 1) / 2) rtts', (t) => {
  const paths = [path(0, { ...QUICK, isFull: true }), path(1, SATELLITE)];
  // rtts = 300 / 10 = 30. 50 Mbit/s for 10 ms is 62,500; (62,500 + 29 / 2 x 1400) x 30 = 2,484,000, and a segment.
  // |M| - inflight_s: what is left of the window and the 125,000 in flight on the quick path.
  t.is(create('blest').select(input(paths, { windowBytes: 2_485_400 - 125_000 })), 1);
  t.is(create('blest').select(input(paths, { windowBytes: 2_485_400 - 125_001 })), -1);
});

test('blest: without a rate sample the window is what the quick path carries in an RTT', (t) => {
  const paths = [path(0, { ...QUICK, isFull: true, rateBytesPerS: 0 }), path(1, SATELLITE)];
  // (125,000 + 29 / 2 x 1400) x 30 + 1400 - 125,000
  t.is(create('blest').select(input(paths, { windowBytes: 4_235_400 })), 1);
  t.is(create('blest').select(input(paths, { windowBytes: 4_235_399 })), -1);
});

test('blest: lambda grows while the window is full in spite of it, once per RTT of the slow path, and shrinks again', (t) => {
  const s = new Blest();
  const paths = [path(0, { ...QUICK, isFull: true }), path(1, SATELLITE)];
  const lambdas: number[] = [];
  for (let i = 1; i <= 40; i++) {
    const nowUs = i * 150_000; // twice per RTT
    s.select(input(paths, { nowUs, windowFullUs: i <= 26 ? nowUs - 1 : -1 }));
    if (i % 2 === 0) lambdas.push(Math.round(10 * s.lambda) / 10);
  }
  t.deepEqual(lambdas.slice(0, 4), [1.1, 1.2, 1.3, 1.4]);
  t.is(Math.max(...lambdas), 2);
  t.deepEqual(lambdas.slice(12, 16), [2, 1.9, 1.8, 1.7]);
  const calm = new Blest();
  for (let i = 1; i < 10; i++) calm.select(input(paths, { nowUs: i * 300_000 }));
  t.is(calm.lambda, 1, 'never below 1');
  // 1.4 x 2,484,000 does not fit into what 2,484,000 does.
  const window = { windowBytes: 2_485_400 - 125_000 };
  for (let i = 1; i <= 4; i++)
    calm.select(input(paths, { nowUs: 3e6 + i * 300_000, windowFullUs: 3e6 + i * 300_000 - 1 }));
  t.is(calm.select(input(paths, { nowUs: 4.3e6, windowFullUs: 4.2e6, ...window })), -1);
});

test('ecf: a burst waits for the quick path, a backlog does not', (t) => {
  const paths = [path(0, { ...QUICK, isFull: true }), path(1, SATELLITE)];
  t.is(create('ecf').select(input(paths, { pendingBytes: 50_000 })), -1);
  t.is(create('ecf').select(input(paths, { pendingBytes: 20_000_000 })), 1);
});

test('ecf: waits while n RTT_f < (1 + waiting beta) (RTT_s + delta)', (t) => {
  // CWND_f 125,000, RTT 10 and 300 ms, delta 20 ms: n < 32 is k < 3,875,000; having waited, n < 40 is k < 4,875,000.
  const paths = [path(0, { ...QUICK, isFull: true, rttVarUs: 5_000 }), path(1, { ...SATELLITE, rttVarUs: 20_000 })];
  const s = create('ecf');
  const ask = (pendingBytes: number) => s.select(input(paths, { pendingBytes }));
  t.is(ask(3_875_000), 1);
  t.is(ask(3_874_000), -1);
  t.is(ask(4_874_000), -1, 'hysteresis');
  t.is(ask(4_875_000), 1);
  t.is(ask(3_875_000), 1, 'which is over with that');
});

test('ecf: does not wait where the slow path is done within 2 RTT_f + delta, and goes on waiting afterwards', (t) => {
  // RTT 20 and 30 ms: one round trip of the slow path is less than two of the quick one; CWND_s 225,000.
  const quick: PathSpec = { mbit: 50, delayMs: 10, isFull: true };
  const slow: PathSpec = { mbit: 30, delayMs: 15 };
  const s = create('ecf');
  const ask = (pendingBytes: number, delayMs = 15) =>
    s.select(input([path(0, quick), path(1, { ...slow, delayMs, cwndBytes: 225_000 })], { pendingBytes }));
  t.is(ask(50_000), 1, 'n = 1.2: 24 ms < 30 ms, but 30 ms < 40 ms');
  t.is(ask(50_000, 25), -1, '50 ms >= 40 ms');
  t.is(ask(50_000), 1);
  // n = 2.8: 56 ms is more than 50 ms, and less than 1.25 x 50: still waiting, as the paper's flag says.
  t.is(ask(450_000, 25), -1);
});

test('redundant: every path with room carries, backups only when nothing else is usable', (t) => {
  const s = create('redundant');
  const carrying = (...paths: ReturnType<typeof path>[]) =>
    paths.filter((p) => s.carries!(input(paths), p)).map(({ index }) => index);
  t.deepEqual(carrying(path(0, QUICK), path(1, SATELLITE), path(2)), [0, 1, 2]);
  t.deepEqual(carrying(path(0, { isFull: true }), path(1), path(2, { isStalled: true })), [1]);
  t.deepEqual(carrying(path(0), path(1, { isBackup: true })), [0]);
  t.deepEqual(carrying(path(0, { isUsable: false }), path(1, { isBackup: true })), [1]);
  for (const [name, make] of Object.entries(schedulers))
    t.is(make().carries !== undefined, name === 'redundant', `${name} sends no copies`);
});

test('adaptive: the quickest path whenever it has room', (t) => {
  const s = create('adaptive');
  t.is(s.select(input([path(0, LTE), path(1, WIFI)])), 1);
  t.is(s.select(input([path(0, SATELLITE), path(1, QUICK)], { pendingBytes: 50_000_000 })), 1);
});

test('adaptive: a request that fits the quick path waits for it', (t) => {
  const s = create('adaptive');
  for (let i = 0; i < 8; i++) {
    const paths = [path(0, { ...WIFI, isFull: true }), path(1, LTE)];
    t.is(s.select(input(paths, { nowUs: i * 1000, pendingBytes: 13_000 })), -1);
  }
});

test('adaptive: what the slow path delivers sooner than the quick one would, it takes at once', (t) => {
  // 300 KB at 50 Mbit/s take 48 ms; LTE delivers in 30.
  const paths = [path(0, { ...WIFI, isFull: true }), path(1, LTE)];
  t.is(create('adaptive').select(input(paths, { pendingBytes: 300_000 })), 1);
});

test('adaptive: sustained demand uses both links of 50 + 30 Mbit/s, though little is ever pending', (t) => {
  const s = create('adaptive');
  const first = sustained(s, WIFI, LTE, 20, 20);
  t.true(first.wait >= 19, 'not in the first 20 ms, by which LTE would delay delivery');
  t.deepEqual(sustained(s, WIFI, LTE, 2000, 1900, 20_000), { slow: 1900, wait: 0 });
});

test('adaptive: and both of 100 Mbit/s 5 ms + 20 Mbit/s 40 ms', (t) => {
  const r = sustained(create('adaptive'), { mbit: 100, delayMs: 5 }, { mbit: 20, delayMs: 40 }, 30_000, 29_000);
  t.deepEqual(r, { slow: 29_000, wait: 0 });
});

test('adaptive: but never 5 Mbit/s 150 ms beside 50 Mbit/s 5 ms', (t) => {
  t.deepEqual(sustained(create('adaptive'), QUICK, SATELLITE, 60_000, 60_000), { slow: 0, wait: 60_000 });
});

test('adaptive: a path that adds too little is tried, passed over for a minute, and tried again', (t) => {
  const s = create('adaptive');
  const thin = { mbit: 1, delayMs: 40 };
  const trial = sustained(s, QUICK, thin, 3000, 3000);
  t.true(trial.slow > 900 && trial.slow < 1200, `${trial.slow} ms`);
  t.deepEqual(sustained(s, QUICK, thin, 55_000, 55_000, 3_000_000), { slow: 0, wait: 55_000 });
  t.true(sustained(s, QUICK, thin, 10_000, 10_000, 58_000_000).slow > 900, 'another trial');
});

test('adaptive: a path that was never full is not judged by what it carried', (t) => {
  const s = create('adaptive');
  const thin = path(1, { mbit: 1, delayMs: 40 });
  let slow = 0;
  for (let ms = 0; ms < 5000; ms++) {
    const paths = [path(0, { ...QUICK, isFull: true }), thin];
    if (s.select(input(paths, { nowUs: ms * 1000, pendingBytes: 13_000 })) === 1) slow++;
  }
  t.true(slow > 4900, `${slow} ms`);
});

test('adaptive: a satellite of unknown rate is tried beside a slow line', (t) => {
  const idle = { mbit: 0.4, delayMs: 300 };
  t.true(sustained(create('adaptive'), { mbit: 5, delayMs: 10 }, idle, 3000, 2000).slow > 1900);
});

test('adaptive: a path whose rate is not known yet gets its trial and is kept if it turns out worth it', (t) => {
  const s = create('adaptive');
  const idle = { ...LTE, mbit: 1 }; // ten segments per RTT is what an unused window shows
  sustained(s, WIFI, idle, 100, 100);
  t.deepEqual(sustained(s, WIFI, idle, 500, 500, 100_000), { slow: 500, wait: 0 });
  t.deepEqual(sustained(s, WIFI, LTE, 5000, 5000, 600_000), { slow: 5000, wait: 0 });
});

test('adaptive: bursts with pauses between them are not sustained demand', (t) => {
  const s = create('adaptive');
  for (let burst = 0; burst < 50; burst++) {
    const r = sustained(s, WIFI, LTE, 15, 15, burst * 100_000);
    t.is(r.slow, 0);
  }
});

test('adaptive: a lull in sustained demand does not put the slow path off again', (t) => {
  const s = create('adaptive');
  sustained(s, WIFI, LTE, 500, 400);
  const lulled = path(0, { ...WIFI, inFlightBytes: 0, availableBytes: 14_000 });
  t.is(s.select(input([lulled, path(1, LTE)], { nowUs: 530_000, pendingBytes: 13_000 })), 0);
  t.deepEqual(sustained(s, WIFI, LTE, 10, 10, 531_000), { slow: 10, wait: 0 }, 'after 30 ms');
  t.is(s.select(input([lulled, path(1, LTE)], { nowUs: 800_000, pendingBytes: 13_000 })), 0);
  t.is(sustained(s, WIFI, LTE, 15, 15, 801_000).slow, 0, 'after 260 ms it has to show itself again');
});

test('adaptive: a stream that the quick path carries stays there, though its pacer is often not ready', (t) => {
  const s = create('adaptive');
  const bdp = (50e6 / 8) * 0.02;
  for (let ms = 0; ms < 2000; ms++) {
    // 20 of 50 Mbit/s: of each 2 ms, one finds the pacer waiting; 40 % of a BDP is in flight.
    const quick = path(0, { ...WIFI, inFlightBytes: 0.4 * bdp, availableBytes: ms % 2 === 0 ? 14_000 : 0 });
    const chosen = s.select(input([quick, path(1, LTE)], { nowUs: ms * 1000, pendingBytes: 5_000 }));
    t.is(chosen, ms % 2 === 0 ? 0 : -1);
  }
});

test('adaptive: a path that its pacer alone limits, with a full pipe, is full', (t) => {
  const s = create('adaptive');
  const bdp = (50e6 / 8) * 0.02;
  let slow = 0;
  for (let ms = 0; ms < 1000; ms++) {
    const quick = path(0, { ...WIFI, inFlightBytes: bdp, availableBytes: ms % 2 === 0 ? 14_000 : 0 });
    if (s.select(input([quick, path(1, LTE)], { nowUs: ms * 1000, pendingBytes: 13_000 })) === 1) slow++;
  }
  t.true(slow > 480, `${slow}`);
});

test('adaptive: a path that the operator limits is full, however little of its pipe that fills', (t) => {
  const taken = (isHeldByLimit: boolean) => {
    const s = create('adaptive');
    let slow = 0;
    for (let ms = 0; ms < 1000; ms++) {
      const quick = path(0, { ...WIFI, inFlightBytes: 11_000, availableBytes: 0, isHeldByLimit });
      if (s.select(input([quick, path(1, LTE)], { nowUs: ms * 1000, pendingBytes: 3_000 })) === 1) slow++;
    }
    return slow;
  };
  t.true(taken(true) > 950, `${taken(true)}`);
  t.is(taken(false), 0);
});

test('adaptive: a send window too small for the delay keeps the slow path out', (t) => {
  const s = create('adaptive');
  for (let i = 0; i < 1000; i++) {
    const paths = [path(0, { ...WIFI, isFull: true }), path(1, LTE)];
    // 50 Mbit/s for half of 60 - 20 ms is 125 KB.
    const chosen = s.select(input(paths, { nowUs: i * 1000, pendingBytes: 13_000, windowBytes: 125_000 }));
    t.is(chosen, -1);
  }
});

test('adaptive: of two slower paths the sooner one', (t) => {
  const s = create('adaptive');
  const paths = [path(0, { ...WIFI, isFull: true }), path(1, { mbit: 30, delayMs: 50 }), path(2, LTE)];
  t.is(s.select(input(paths, { pendingBytes: 10_000_000 })), 2);
});
