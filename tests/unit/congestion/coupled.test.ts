/** Coupled congestion control: RFC 6356 (LIA) and the drafts of OLIA and BALIA, in numbers. MSS 1000, windows in segments. */
import test from 'ava';
import { Balia } from '../../../src/core/congestion/balia.js';
import type { CoupledController } from '../../../src/core/congestion/coupled.js';
import { Coupling } from '../../../src/core/congestion/coupling.js';
import { alpha, Lia } from '../../../src/core/congestion/lia.js';
import { Olia, oliaAlpha } from '../../../src/core/congestion/olia.js';
import { Reno } from '../../../src/core/congestion/reno.js';
import { Acker, MSS } from './samples.js';

type Kind = typeof Lia | typeof Olia | typeof Balia;

interface FlowSpec {
  readonly cwnd: number;
  readonly rttMs: number;
  /** Segments acknowledged since the last loss (OLIA's l). */
  readonly l?: number;
}

const NOW_US = 1_000_000;

/** Flows of one connection in congestion avoidance, each with a window and an RTT. */
function connect(kind: Kind, specs: readonly FlowSpec[]) {
  const coupling = new Coupling();
  const flows = specs.map(({ cwnd, rttMs, l = 1 }) => {
    const c: CoupledController = kind.create({ mssBytes: MSS, initialCwndSegments: 2 * cwnd, coupling });
    c.onCongestionEvent(NOW_US, 2 * cwnd * MSS, 'loss');
    const acker = new Acker(c, rttMs * 1000, NOW_US);
    acker.ack(l, { inRecovery: true });
    return acker;
  });
  return { coupling, flows, controllers: flows.map((f) => f.controller as CoupledController) };
}

/** What one segment acknowledged on flow `i` adds to its window, in segments. */
function increase(flows: readonly Acker[], i: number, overrides = {}): number {
  const c = flows[i]!.controller as CoupledController;
  const before = c.windowBytes;
  flows[i]!.ack(1, overrides);
  return (c.windowBytes - before) / MSS;
}

const near = (a: number, b: number) => Math.abs(a - b) <= 1e-9 + 1e-4 * Math.abs(b);

// cwnd_total, MAX(cwnd_i / rtt_i^2) and SUM(cwnd_i / rtt_i) by hand, milliseconds.
const ALPHAS: readonly (readonly [string, readonly FlowSpec[], number])[] = [
  ['one flow: 1', [{ cwnd: 17, rttMs: 30 }], 1],
  ['two alike: 1/2', [10, 10].map((cwnd) => ({ cwnd, rttMs: 20 })), 0.5],
  ['four alike: 1/4', [8, 8, 8, 8].map((cwnd) => ({ cwnd, rttMs: 50 })), 0.25],
  ['equal RTTs, 30 and 10: 40 x 30 / 40^2', [30, 10].map((cwnd) => ({ cwnd, rttMs: 20 })), 0.75],
  // 50 x max(10 / 100, 40 / 10000) / (10 / 10 + 40 / 100)^2 = 5 / 1.96
  [
    'unequal RTTs',
    [
      { cwnd: 10, rttMs: 10 },
      { cwnd: 40, rttMs: 100 },
    ],
    5 / 1.96,
  ],
  // 60 x max(20 / 400, 40 / 10000) / (20 / 20 + 40 / 100)^2 = 3 / 1.96
  [
    'unequal RTTs, larger windows',
    [
      { cwnd: 20, rttMs: 20 },
      { cwnd: 40, rttMs: 100 },
    ],
    3 / 1.96,
  ],
];

test('LIA: alpha is cwnd_total x MAX(cwnd/rtt^2) / (SUM cwnd/rtt)^2', (t) => {
  for (const [name, specs, expected] of ALPHAS) {
    const { coupling } = connect(Lia, specs);
    coupling.survey(NOW_US);
    t.true(near(alpha(coupling), expected), `${name}: ${alpha(coupling)}`);
  }
});

test('LIA: an ACK grows the window by alpha x acked x MSS / cwnd_total, and never by more than a TCP would', (t) => {
  const { flows } = connect(Lia, [
    { cwnd: 10, rttMs: 10 },
    { cwnd: 40, rttMs: 100 },
  ]);
  t.true(near(increase(flows, 0), 5 / 1.96 / 50), 'the coupled term: 0.051 where a TCP has 0.1');
  t.true(near(increase(flows, 1), 1 / 40), 'the TCP term: 0.025 where the coupled one is 0.051');
  const { flows: alike } = connect(Lia, [
    { cwnd: 10, rttMs: 20 },
    { cwnd: 10, rttMs: 20 },
  ]);
  const inc = increase(alike, 0);
  t.true(near(inc, 0.5 / 20), `two alike grow together as half of one: ${inc}`);
});

test('LIA: bytes acknowledged count, not ACKs, and a large window still grows', (t) => {
  const specs = [10, 10].map((cwnd) => ({ cwnd, rttMs: 20 }));
  const { flows } = connect(Lia, specs);
  const c = flows[0]!.controller as CoupledController;
  flows[0]!.ack(4);
  t.true(near((c.windowBytes - 10 * MSS) / MSS, (4 * 0.5) / 20));
  // RFC 6356 3: where integers would round to 0 the increase must be 1 byte; fractions add up.
  const { flows: large } = connect(Lia, [
    { cwnd: 3000, rttMs: 20 },
    { cwnd: 30_000, rttMs: 20 },
  ]);
  t.true(increase(large, 0) > 0);
});

test('LIA: slow start, the decrease, the least ssthresh and timeouts are as in NewReno', (t) => {
  const coupling = new Coupling();
  const make = () => Lia.create({ mssBytes: MSS, initialCwndSegments: 10, coupling });
  const lia = new Acker(make(), 40_000);
  const sibling = new Acker(make(), 40_000);
  const reno = new Acker(Reno.create({ mssBytes: MSS, initialCwndSegments: 10 }), 40_000);
  sibling.round();
  const same = (what: string) => {
    t.is(lia.controller.cwndBytes, reno.controller.cwndBytes, what);
    t.is(lia.controller.ssthreshBytes, reno.controller.ssthreshBytes, what);
  };
  for (const a of [lia, reno]) for (let i = 0; i < 3; i++) a.round();
  same('slow start doubles');
  t.is(lia.cwndSegments, 80);
  for (const { controller, nowUs } of [lia, reno]) controller.onCongestionEvent(nowUs, controller.cwndBytes, 'loss');
  same('halved');
  t.is(lia.cwndSegments, 40);
  for (const a of [lia, reno]) a.ack(1, { inRecovery: true });
  same('fast recovery does not grow');
  for (const { controller, nowUs } of [lia, reno]) controller.onRto(nowUs, 0);
  same('timeout');
  t.is(lia.controller.cwndBytes, MSS);
  for (const { controller, nowUs } of [lia, reno]) controller.onUndo(nowUs);
  same('undone');
  for (const { controller, nowUs } of [lia, reno])
    for (let i = 0; i < 8; i++) controller.onCongestionEvent(nowUs, controller.cwndBytes, 'loss');
  same('the least: two segments');
  t.is(lia.controller.ssthreshBytes, 2 * MSS);
});

test('LIA: alpha follows the smoothed RTT of each ACK, not the sample', (t) => {
  const specs = [10, 10].map((cwnd) => ({ cwnd, rttMs: 20 }));
  const { flows } = connect(Lia, specs);
  t.true(near(increase(flows, 0, { rttUs: 500_000 }), 0.5 / 20), 'a sample of 500 ms alone changes nothing');
  const fresh = connect(Lia, specs).flows;
  // rtt 20 and 40 ms: 20 x max(10 / 1600, 10 / 400) / (10 / 40 + 10 / 20)^2 = 0.5 / 0.5625
  t.true(near(increase(fresh, 0, { srttUs: 40_000 }), 0.5 / 0.5625 / 20));
});

test('LIA: a flow that its application limits counts with what it has in flight', (t) => {
  const { coupling, flows } = connect(Lia, [
    { cwnd: 20, rttMs: 20 },
    { cwnd: 20, rttMs: 20 },
  ]);
  flows[1]!.ack(1, { isCwndLimited: false, priorInFlightBytes: 5 * MSS });
  coupling.survey(NOW_US);
  t.is(coupling.totalBytes, 25 * MSS);
  t.is(flows[1]!.cwndSegments, 20, 'and does not grow');
});

test('OLIA: the linked term is (cwnd/rtt^2) / (SUM cwnd/rtt)^2', (t) => {
  // Equal l: the flow of 10 ms is the best one; it has the larger window, so nothing is collected and alpha is 0.
  const { flows } = connect(Olia, [
    { cwnd: 40, rttMs: 10, l: 100 },
    { cwnd: 10, rttMs: 100, l: 100 },
  ]);
  // (40 / 10 + 10 / 100)^2 = 16.81
  t.true(near(increase(flows, 0), 40 / 100 / 16.81));
  const { flows: other } = connect(Olia, [
    { cwnd: 40, rttMs: 10, l: 100 },
    { cwnd: 10, rttMs: 100, l: 100 },
  ]);
  t.true(near(increase(other, 1), 10 / 10_000 / 16.81));
});

test('OLIA: alpha moves window from the largest to the best paths', (t) => {
  const alphas = (specs: readonly FlowSpec[]) => {
    const { coupling, controllers } = connect(Olia, specs);
    return controllers.map((c) => Math.round(1e6 * oliaAlpha(coupling, c, NOW_US)) / 1e6);
  };
  const flow = (cwnd: number, l: number, rttMs = 20): FlowSpec => ({ cwnd, l, rttMs });
  t.deepEqual(alphas([flow(10, 100)]), [0], 'alone');
  t.deepEqual(alphas([flow(20, 100), flow(10, 50)]), [0, 0], 'the best has the largest window: nothing is collected');
  t.deepEqual(alphas([flow(20, 50), flow(10, 100)]), [-0.5, 0.5], 'the best one gets what the largest one gives');
  t.deepEqual(alphas([flow(20, 50), flow(10, 100), flow(5, 10)]), [-0.333333, 0.333333, 0], 'the third has no part');
  t.deepEqual(alphas([flow(20, 50), flow(20, 50), flow(10, 100)]), [-0.166667, -0.166667, 0.333333], 'two largest');
  t.deepEqual(alphas([flow(20, 50), flow(10, 100), flow(9, 100)]), [-0.333333, 0.166667, 0.166667], 'two best');
  // l^2 / rtt: 100^2 / 20 is less than 150^2 / 40.
  t.deepEqual(alphas([flow(20, 100, 20), flow(10, 150, 40)]), [-0.5, 0.5], 'by l^2 / rtt');
  t.deepEqual(alphas([flow(20, 100, 20), flow(10, 150, 50)]), [0, 0], 'and not by l alone');
});

test('OLIA: l is the larger of the bytes since the last loss and between the last two; undone losses do not count', (t) => {
  const { flows, controllers } = connect(Olia, [{ cwnd: 20, rttMs: 20, l: 100 }]);
  const c = controllers[0]!;
  const l = () => c.lossIntervalBytes / MSS;
  t.is(l(), 100);
  c.onCongestionEvent(NOW_US, 20 * MSS, 'loss');
  t.is(l(), 100, 'between the last two');
  flows[0]!.ack(30, { inRecovery: true });
  t.is(l(), 100);
  c.onUndo(NOW_US);
  t.is(l(), 130, 'as if there had been no loss');
  c.onCongestionEvent(NOW_US, 20 * MSS, 'loss');
  flows[0]!.ack(200, { inRecovery: true });
  t.is(l(), 200, 'since the last one');
  c.onCongestionEvent(NOW_US, 20 * MSS, 'loss');
  c.onCongestionEvent(NOW_US, 10 * MSS, 'loss');
  t.is(l(), 0);
});

test('OLIA: a window that gives way is not in slow start again, and keeps a segment', (t) => {
  const { flows } = connect(Olia, [
    { cwnd: 12, rttMs: 20, l: 10 },
    { cwnd: 10, rttMs: 20, l: 1000 },
  ]);
  const before = flows[0]!.controller.cwndBytes;
  flows[0]!.ack(1);
  t.true(flows[0]!.controller.cwndBytes < before, 'gives way');
  t.false(flows[0]!.controller.inSlowStart);
  for (let i = 0; i < 3000; i++) flows[0]!.ack(1, { nowUs: NOW_US });
  t.true(flows[0]!.controller.cwndBytes >= MSS);
  t.false(flows[0]!.controller.inSlowStart);
});

test('BALIA: increase x_r / (rtt_r (SUM x)^2) (1 + a)/2 (4 + a)/5, decrease cwnd/2 min(a, 1.5)', (t) => {
  // x = 4 and 0.4 segments/ms, a = 1 and 10, (SUM x)^2 = 19.36.
  const specs = [
    { cwnd: 40, rttMs: 10 },
    { cwnd: 40, rttMs: 100 },
  ];
  t.true(near(increase(connect(Balia, specs).flows, 0), 4 / 10 / 19.36));
  t.true(near(increase(connect(Balia, specs).flows, 1), ((0.4 / 100 / 19.36) * 11 * 14) / 10));
  // x = 2 and 1.6, a = 1.25 for the second.
  const close = [
    { cwnd: 40, rttMs: 20 },
    { cwnd: 32, rttMs: 20 },
  ];
  t.true(near(increase(connect(Balia, close).flows, 1), ((1.6 / 20 / 12.96) * 2.25 * 5.25) / 10));

  const left = (of: readonly FlowSpec[], i: number) => {
    const { controllers } = connect(Balia, of);
    controllers[i]!.onCongestionEvent(NOW_US, of[i]!.cwnd * MSS, 'loss');
    return controllers[i]!.cwndBytes / MSS;
  };
  t.is(left(specs, 0), 20, 'the best one: half');
  t.is(left(specs, 1), 10, 'far behind: three quarters go');
  t.is(left(close, 1), 12, '32 - 16 x 1.25');
});

test('BALIA, OLIA and LIA: alone they are NewReno', (t) => {
  for (const kind of [Lia, Olia, Balia]) {
    const coupled = connect(kind, [{ cwnd: 20, rttMs: 50 }]).flows[0]!;
    const reno = new Acker(Reno.create({ mssBytes: MSS, initialCwndSegments: 40 }), 50_000, NOW_US);
    reno.controller.onCongestionEvent(NOW_US, 40 * MSS, 'loss');
    for (let i = 0; i < 30; i++) {
      coupled.round();
      reno.round();
      if (i % 10 === 9)
        for (const { controller, nowUs } of [coupled, reno])
          controller.onCongestionEvent(nowUs, controller.cwndBytes, 'loss');
      const difference = Math.abs(coupled.controller.cwndBytes - reno.controller.cwndBytes);
      t.true(difference <= 1, `${kind.name} round ${i}: ${difference} bytes`);
    }
  }
});

test('a sibling that joins, idles, stalls or leaves enters and leaves the sums cleanly', (t) => {
  for (const kind of [Lia, Olia, Balia]) {
    const { coupling, flows, controllers } = connect(kind, [
      { cwnd: 20, rttMs: 20 },
      { cwnd: 20, rttMs: 20 },
    ]);
    const surveyed = (nowUs: number) => {
      coupling.survey(nowUs);
      return [coupling.atWork, coupling.totalBytes / MSS];
    };
    t.deepEqual(surveyed(NOW_US), [2, 40]);
    // Joined, and not yet an ACK of it: no RTT, no part.
    const joined = kind.create({ mssBytes: MSS, initialCwndSegments: 10, coupling });
    t.deepEqual(surveyed(NOW_US), [2, 40]);
    new Acker(joined, 30_000, NOW_US).ack(1, { inRecovery: true });
    t.deepEqual(surveyed(NOW_US), [3, 50]);
    // Silent for longer than 500 ms and two RTTs: a backup, or stalled.
    const later = NOW_US + 600_000;
    flows[0]!.nowUs = later;
    flows[0]!.ack(1, { inRecovery: true });
    t.deepEqual(surveyed(later), [1, 20]);
    const alone = increase([flows[0]!], 0);
    t.true(near(alone, 1 / 20), `${kind.name}: grows as a TCP: ${alone}`);
    // Back at work: coupled again.
    flows[1]!.nowUs = later;
    flows[1]!.ack(1, { inRecovery: true });
    t.true(increase(flows, 1) < 0.9 / 20);
    coupling.leave(controllers[0]!);
    coupling.leave(joined);
    coupling.leave(Reno.create({ mssBytes: MSS, initialCwndSegments: 10 }));
    t.is(coupling.flows.length, 1);
    const before = controllers[1]!.windowBytes;
    const last = increase(flows, 1);
    t.true(near(last, MSS / before), `${kind.name}: the last one is a TCP again`);
    // An RTO of a sibling, then nothing left of its window but a segment.
    controllers[1]!.onRto(later, 0);
    t.deepEqual(surveyed(later), [1, 1]);
  }
});
