/** CUBIC against RFC 9438, rule by rule (Q1-Q8). MSS is 1000 so that windows read as segments. */
import test from 'ava';
import { Cubic } from '../../../src/core/congestion/cubic.js';
import { Reno } from '../../../src/core/congestion/reno.js';
import { run } from './link-model.js';
import { Acker, MSS } from './samples.js';

/** In avoidance with `segments` in the window, having been reduced from `from`. */
function reduced(rttUs: number, from: number): Acker {
  const c = new Cubic({ mssBytes: MSS, initialCwndSegments: from });
  const a = new Acker(c, rttUs);
  c.onCongestionEvent(a.nowUs, from * MSS, 'loss');
  c.onRecoveryExit(a.nowUs);
  return a;
}

/** RFC 9438 figure 1, in segments and seconds. */
function wCubic(tS: number, wMax: number, cwndEpoch: number): number {
  const k = Math.cbrt((wMax - cwndEpoch) / 0.4);
  return 0.4 * (tS - k) ** 3 + wMax;
}

test('Q1, Q2: the window follows the cubic through its plateau', (t) => {
  // 100 ms and 1000 segments: Reno would need 300 round trips for what CUBIC does in 90.
  const a = reduced(100_000, 1000);
  const epochUs = a.nowUs + a.rttUs / 700;
  const k = Math.cbrt(300 / 0.4); // 9.09 s
  const trace: number[] = [];
  for (let i = 0; i < 140; i++) {
    a.round();
    const ideal = wCubic((a.nowUs - epochUs) / 1e6, 1000, 700);
    t.true(Math.abs(a.cwndSegments - ideal) / ideal < 0.02, `round ${i}: ${a.cwndSegments} for ${ideal}`);
    if (i % 10 === 9) trace.push(Math.floor(a.cwndSegments));
  }
  t.true(k > 9 && k < 9.2);
  t.snapshot(trace, 'cwnd in segments each second');
});

test('Q2: growth per round trip is at most half the window', (t) => {
  // 20 s: long enough for W(t + RTT) to be several windows away.
  const a = reduced(20_000_000, 100);
  let most = 0;
  for (let i = 0; i < 8; i++) {
    const before = a.cwndSegments;
    a.round();
    most = Math.max(most, a.cwndSegments / before);
  }
  t.true(most > 1.49 && most < 1.505, `${most}`);
});

test('Q3: at a low bandwidth-delay product it is as fast as Reno', (t) => {
  const a = reduced(10_000, 20);
  // alpha = 3 (1 - 0.7) / (1 + 0.7) = 0.53 segments per round trip until the old window, then 1.
  const from = a.cwndSegments;
  for (let i = 0; i < 8; i++) a.round();
  const perRound = (a.cwndSegments - from) / 8;
  t.true(perRound > 0.48 && perRound < 0.56, `${perRound}`);
  while (a.cwndSegments < 21) a.round();
  const later = a.cwndSegments;
  for (let i = 0; i < 8; i++) a.round();
  const perRoundLater = (a.cwndSegments - later) / 8;
  t.true(perRoundLater > 0.9 && perRoundLater <= 1.02, `${perRoundLater}`);
});

test('Q4: the decrease is by 0.7, for a mark by 0.85 (RFC 8511), and never below two segments', (t) => {
  const c = new Cubic({ mssBytes: MSS, initialCwndSegments: 100 });
  c.onCongestionEvent(0, 100 * MSS, 'loss');
  t.is(c.ssthreshBytes, 70 * MSS);
  t.is(c.cwndBytes, 70 * MSS);
  t.false(c.inSlowStart);
  const marked = new Cubic({ mssBytes: MSS, initialCwndSegments: 100 });
  marked.onCongestionEvent(0, 100 * MSS, 'ecn');
  t.is(marked.cwndBytes, 85 * MSS);
  for (let i = 0; i < 40; i++) c.onCongestionEvent(i, c.cwndBytes, 'loss');
  t.is(c.ssthreshBytes, 2 * MSS);
});

test('Q4: a window that was not in use is reduced from what was in flight', (t) => {
  const c = new Cubic({ mssBytes: MSS, initialCwndSegments: 100 });
  const a = new Acker(c, 50_000);
  a.ack(1, { isCwndLimited: false });
  c.onCongestionEvent(a.nowUs, 40 * MSS, 'loss');
  t.is(c.cwndBytes, 28 * MSS);
});

test('Q5: fast convergence lowers the plateau when the window did not reach the last one', (t) => {
  const a = reduced(100_000, 1000); // W_max 1000, cwnd 700
  a.controller.onCongestionEvent(a.nowUs, 700 * MSS, 'loss'); // W_max 700 x 0.85 = 595, cwnd 490
  a.controller.onRecoveryExit(a.nowUs);
  t.is(a.cwndSegments, 490);
  const k = Math.cbrt((595 - 490) / 0.4);
  for (let i = 0; i < Math.round(k * 10); i++) a.round();
  t.true(Math.abs(a.cwndSegments - 595) < 3, `${a.cwndSegments}`);
});

test('Q6: an RTO sets ssthresh by beta and the window to one segment; slow start up to ssthresh, then a new epoch', (t) => {
  const c = new Cubic({ mssBytes: MSS, initialCwndSegments: 100 });
  const a = new Acker(c, 100_000);
  c.onRto(a.nowUs, 0);
  t.is(c.ssthreshBytes, 70 * MSS);
  t.is(c.cwndBytes, MSS);
  t.true(c.inSlowStart);
  c.onRecoveryExit(a.nowUs);
  for (let i = 0; i < 6; i++) a.round();
  t.is(a.cwndSegments, 64);
  a.round();
  t.true(a.cwndSegments >= 70 && a.cwndSegments < 72, `${a.cwndSegments}`);
  // RFC 9438 4.8: K = 0 and W_max is the window with which this stage begins; the plateau at 100 is forgotten.
  const epochUs = a.nowUs;
  for (let i = 0; i < 60; i++) a.round();
  const ideal = 70 + 0.4 * ((a.nowUs - epochUs) / 1e6) ** 3;
  t.true(Math.abs(a.cwndSegments - ideal) < 4, `${a.cwndSegments} for ${ideal}`);
});

test('Q7: undo restores window, threshold and plateau', (t) => {
  const a = reduced(100_000, 1000);
  for (let i = 0; i < 20; i++) a.round();
  const before = a.cwndSegments;
  const ssthresh = a.controller.ssthreshBytes;
  a.controller.onCongestionEvent(a.nowUs, 1, 'loss');
  t.true(a.cwndSegments < before);
  a.controller.onUndo(a.nowUs);
  t.is(a.cwndSegments, before);
  t.is(a.controller.ssthreshBytes, ssthresh);
  for (let i = 0; i < 90; i++) a.round();
  t.true(Math.abs(a.cwndSegments - 1000) < 15, `the plateau is still 1000: ${a.cwndSegments}`);
});

test('Q7: after an undo the last maximum is known as it was, for fast convergence', (t) => {
  const a = reduced(100_000, 1000);
  for (let i = 0; i < 20; i++) a.round();
  a.controller.onCongestionEvent(a.nowUs, 1, 'loss');
  a.controller.onUndo(a.nowUs);
  const at = a.cwndSegments;
  a.controller.onCongestionEvent(a.nowUs, at * MSS, 'loss');
  a.controller.onRecoveryExit(a.nowUs);
  const k = Math.cbrt((0.85 * at - 0.7 * at) / 0.4);
  for (let i = 0; i < Math.round(k * 10); i++) a.round();
  t.true(Math.abs(a.cwndSegments - 0.85 * at) < 5, `${a.cwndSegments}, below 1000: a plateau at 0.85 x ${at}`);
});

test('Q7: an undone timeout leaves the curve as it was', (t) => {
  const a = reduced(100_000, 1000);
  for (let i = 0; i < 20; i++) a.round();
  const before = a.cwndSegments;
  a.controller.onRto(a.nowUs, 0);
  a.controller.onUndo(a.nowUs);
  t.is(a.cwndSegments, before);
  for (let i = 0; i < 20; i++) a.round();
  const ideal = wCubic((a.nowUs - 1_000_000) / 1e6, 1000, 700);
  t.true(Math.abs(a.cwndSegments - ideal) < 15, `${a.cwndSegments} for ${ideal}`);
});

test('Q7: time without using the window does not count; no jump afterwards', (t) => {
  const a = reduced(100_000, 1000);
  for (let i = 0; i < 10; i++) a.round();
  const before = a.cwndSegments;
  for (let i = 0; i < 600; i++) {
    a.nowUs += 100_000;
    a.ack(1, { isCwndLimited: false });
  }
  t.is(a.cwndSegments, before);
  a.round();
  t.true(a.cwndSegments - before < 20, `${a.cwndSegments} after ${before}`);
});

test('Q8: HyStart++ leaves slow start on delay, before the queue overflows', (t) => {
  // 50 Mbit/s, 100 ms, 1 s of queue: 4910 packets fit; doubling would go on until it loses thousands.
  const r = run({ rateBitsPerS: 50e6, delayUs: 50_000, queueUs: 1_000_000 }, [{ factory: Cubic.create }], 4e6);
  t.is(r.flows[0]!.lostPackets, 0);
  t.true(r.flows[0]!.cwndTrace.at(-1)! > 446, 'and not before the path is full');
  t.true(Number.isFinite(r.flows[0]!.controller.ssthreshBytes));
});

test('Q8: a rise of the RTT makes growth a quarter, five rounds of it end slow start (RFC 9406 4.2)', (t) => {
  const c = new Cubic({ mssBytes: MSS, initialCwndSegments: 16 });
  const a = new Acker(c, 40_000);
  a.round();
  t.is(a.cwndSegments, 32);
  // 40 ms + max(4, min(40 / 8, 16)) = 45 ms; the eighth sample of the round tells.
  a.round({ rttUs: 45_000 });
  t.true(a.cwndSegments > 32 + 7 && a.cwndSegments < 48, `${a.cwndSegments}`);
  for (let i = 0; i < 4; i++) a.round({ rttUs: 45_000 });
  t.true(c.inSlowStart);
  a.round({ rttUs: 45_000 });
  t.false(c.inSlowStart);
  t.true(c.ssthreshBytes > 32 * 1.25 ** 5 * MSS && c.ssthreshBytes < 48 * 1.25 ** 5 * MSS, `${c.ssthreshBytes}`);
});

test('Q8: HyStart++ is for the first slow start only (RFC 9406 4.3)', (t) => {
  const c = new Cubic({ mssBytes: MSS, initialCwndSegments: 64 });
  const a = new Acker(c, 40_000);
  a.round();
  c.onRto(a.nowUs, 0);
  c.onRecoveryExit(a.nowUs);
  for (let i = 0; i < 4; i++) a.round();
  t.is(a.cwndSegments, 16);
  // The RTT has doubled: a first slow start would grow by a quarter now.
  a.round({ rttUs: 80_000 });
  a.round({ rttUs: 80_000 });
  t.is(a.cwndSegments, 64);
});

test('Q8: the end of five conservative rounds counts although the window is not in use then', (t) => {
  const c = new Cubic({ mssBytes: MSS, initialCwndSegments: 16 });
  const a = new Acker(c, 40_000);
  a.round();
  for (let i = 0; i < 5; i++) a.round({ rttUs: 46_000 });
  t.true(c.inSlowStart);
  const cwndBytes = c.cwndBytes;
  a.round({ rttUs: 46_000, isCwndLimited: false });
  t.false(c.inSlowStart);
  t.is(c.ssthreshBytes, cwndBytes);
});

test('Q8: a rise that was only jitter goes back to slow start', (t) => {
  const c = new Cubic({ mssBytes: MSS, initialCwndSegments: 16 });
  const a = new Acker(c, 40_000);
  a.round();
  a.round({ rttUs: 46_000 });
  const conservative = a.cwndSegments;
  a.round({ rttUs: 40_000 });
  const back = a.cwndSegments / conservative;
  t.true(back > 1.6, `${back}`);
  for (let i = 0; i < 6; i++) a.round({ rttUs: 40_000 });
  t.true(c.inSlowStart);
});

test('restart after idleness is from the initial window, towards what was known (RFC 5681 4.1)', (t) => {
  const c = new Cubic({ mssBytes: MSS, initialCwndSegments: 10 });
  const a = new Acker(c, 50_000);
  for (let i = 0; i < 4; i++) a.round();
  const before = c.cwndBytes;
  c.onCongestionEvent(a.nowUs, before, 'loss');
  const reducedTo = c.cwndBytes;
  c.onIdleRestart(a.nowUs, 100_000, 200_000);
  t.is(c.cwndBytes, reducedTo, 'shorter than an RTO: nothing');
  c.onIdleRestart(a.nowUs, 300_000, 200_000);
  t.is(c.cwndBytes, 10 * MSS);
  t.true(c.ssthreshBytes >= reducedTo * 0.75);
});

test('Reno: one segment per round trip, half on loss (RFC 5681)', (t) => {
  const c = new Reno({ mssBytes: MSS, initialCwndSegments: 40 });
  const a = new Acker(c, 50_000);
  c.onCongestionEvent(a.nowUs, 40 * MSS, 'loss');
  t.is(a.cwndSegments, 20);
  const trace: number[] = [];
  for (let i = 0; i < 5; i++) {
    a.round();
    trace.push(Math.round(c.cwndBytes / MSS));
  }
  t.deepEqual(trace, [21, 22, 23, 24, 25]);
});

test('pacing is 2 x cwnd/srtt well below ssthresh and 1.2 x above half of it', (t) => {
  const c = new Cubic({ mssBytes: MSS, initialCwndSegments: 10 });
  const a = new Acker(c, 100_000);
  a.ack(1, { isCwndLimited: false });
  t.is(c.pacingRateBytesPerS, (2 * 10 * MSS * 1e6) / 100_000);
  c.onCongestionEvent(a.nowUs, 10 * MSS, 'loss');
  t.is(c.pacingRateBytesPerS, (1.2 * c.cwndBytes * 1e6) / 100_000);
});
