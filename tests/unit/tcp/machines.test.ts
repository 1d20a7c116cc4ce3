/** The small machines one by one: RTT (O1-O3), scoreboard (K2, against a naive one), pacer, PRR, rate, timestamps (S6). */
import test from 'ava';
import fc from 'fast-check';
import { TokenBucket } from '../../../src/core/base/token-bucket.js';
import { DEFAULT_SUBFLOW_CONFIG } from '../../../src/core/tcp/config.js';
import { DeliveryRate } from '../../../src/core/tcp/delivery-rate.js';
import { Pacer } from '../../../src/core/tcp/pacer.js';
import { ProportionalRateReduction } from '../../../src/core/tcp/prr.js';
import { RttEstimator } from '../../../src/core/tcp/rtt.js';
import { IN_FLIGHT, LOST, SACKED, Scoreboard, SentRecord } from '../../../src/core/tcp/scoreboard.js';
import { Timestamps } from '../../../src/core/tcp/timestamps.js';

const PARTS = [new Uint8Array(1000)];

test('O1, O2, O3: a fixed series by RFC 6298', (t) => {
  const { initialRtoUs, minRtoUs, maxRtoUs } = DEFAULT_SUBFLOW_CONFIG;
  const rtt = new RttEstimator(initialRtoUs, minRtoUs, maxRtoUs);
  t.is(rtt.rtoUs, 1_000_000);
  rtt.onSample(0, 100_000, 1);
  t.is(rtt.srttUs, 100_000);
  t.is(rtt.rttVarUs, 50_000);
  t.is(rtt.rtoUs, 300_000);
  rtt.onSample(1, 180_000, 1);
  t.is(rtt.rttVarUs, 50_000 * 0.75 + 80_000 * 0.25);
  t.is(rtt.srttUs, 110_000);
  t.is(rtt.rtoUs, 110_000 + 4 * 57_500);
  for (let i = 0; i < 100; i++) rtt.onSample(i, 100_000, 1);
  t.true(rtt.rtoUs >= 300_000 && rtt.rtoUs < 301_000, 'floor of 200 ms on the variance term');
  t.is(rtt.backedOffUs(2), 4 * rtt.rtoUs);
  t.is(rtt.backedOffUs(40), 60_000_000);
});

test('O7: many samples a round trip do not make the estimate forget its variance', (t) => {
  const rtt = new RttEstimator(1_000_000, 1_000, 60_000_000);
  rtt.onSample(0, 100_000, 1);
  for (let i = 0; i < 20; i++) rtt.onSample(i, 100_000, 20);
  t.true(rtt.rttVarUs > 35_000);
  for (let i = 0; i < 4; i++) rtt.onSample(100 + i, 300_000, 20);
  t.true(rtt.rtoUs > 500_000, 'but follow a queue that fills');
});

test('the minimum RTT follows a route that became longer after five minutes', (t) => {
  const rtt = new RttEstimator(1_000_000, 200_000, 60_000_000);
  rtt.onSample(0, 20_000, 1);
  rtt.onSample(299_000_000, 50_000, 1);
  t.is(rtt.minRttUs, 20_000);
  rtt.onSample(301_000_000, 50_000, 1);
  t.is(rtt.minRttUs, 50_000);
});

const boardOperation = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ type: fc.constant('send' as const), a: fc.integer({ min: 1, max: 40 }), b: fc.constant(0) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ type: fc.constant('sack' as const), a: fc.nat(300), b: fc.integer({ min: 1, max: 60 }) }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('ack' as const), a: fc.nat(60), b: fc.constant(0) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('lose' as const), a: fc.nat(5), b: fc.constant(0) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('retransmit' as const), a: fc.nat(20), b: fc.constant(0) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('renege' as const), a: fc.constant(0), b: fc.constant(0) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('unmark' as const), a: fc.constant(0), b: fc.constant(0) }) },
);

test('K2: the scoreboard agrees with a byte-by-byte one under any sequence of events', (t) => {
  fc.assert(
    fc.property(fc.array(boardOperation, { maxLength: 60 }), (operations) => {
      let una = 1;
      let nxt = 1;
      let nowUs = 0;
      const status = new Map<number, number>();
      const delivered = new Set<number>();
      let acked = 1;
      const board = new Scoreboard({
        onDelivered(rec, endSeq) {
          for (let x = rec.seq; x < endSeq; x++) {
            if (delivered.has(x)) throw new Error(`${x} delivered twice`);
            delivered.add(x);
          }
        },
        onAcked(seq, length) {
          if (seq !== acked) throw new Error(`acked ${seq}, expected ${acked}`);
          acked = seq + length;
        },
      });
      for (const { type, a, b } of operations) {
        nowUs++;
        if (type === 'send') {
          board.append(nowUs, nxt, { lengthBytes: a, parts: PARTS, firstOffset: nxt % 7, tag: nxt % 7 });
          for (let i = 0; i < a; i++) status.set(nxt + i, IN_FLIGHT);
          nxt += a;
        } else if (type === 'sack') {
          const left = Math.max(una, a);
          const right = Math.min(nxt, a + b);
          if (left >= right) continue;
          board.sack(left, right);
          for (let x = left; x < right; x++) status.set(x, SACKED);
        } else if (type === 'ack') {
          const to = Math.min(nxt, una + a);
          if (to > una) board.ackTo(to);
          for (let x = una; x < to; x++) status.delete(x);
          una = to;
        } else if (type === 'lose') {
          let rec = board.oldestInFlight;
          for (let i = 0; i < a && rec !== null; i++) rec = rec.queueNext;
          if (rec === null) continue;
          for (let x = rec.seq; x < rec.endSeq; x++) status.set(x, LOST);
          board.markLost(rec);
        } else if (type === 'retransmit') {
          const rec = board.firstLost;
          if (rec === null) continue;
          if (a > 0 && a < rec.lengthBytes) board.split(rec, rec.seq + a);
          for (let x = rec.seq; x < rec.endSeq; x++) status.set(x, IN_FLIGHT);
          board.markRetransmitted(nowUs, rec);
        } else if (type === 'renege') {
          for (const [x, s] of status) if (s === SACKED) status.set(x, LOST);
          for (const [x, s] of status) if (s === LOST) delivered.delete(x);
          board.renege();
        } else {
          for (const [x, s] of status) if (s === LOST) status.set(x, IN_FLIGHT);
          board.unmarkLost();
        }
        checkBoard(board, status, una, nxt);
      }
    }),
    { numRuns: 300 },
  );
  t.pass();
});

function checkBoard(board: Scoreboard, status: Map<number, number>, una: number, nxt: number): void {
  let seq = una;
  const sums = [0, 0, 0];
  let records = 0;
  let runs = 0;
  let wasSacked = false;
  for (let rec = board.head; rec !== null; rec = rec.next) {
    if (rec.seq !== seq || rec.endSeq <= rec.seq) throw new Error(`record at ${rec.seq}, expected ${seq}`);
    if ((rec.firstOffset - (rec.tag as number)) % 1 !== 0) throw new Error('tag lost');
    for (let x = rec.seq; x < rec.endSeq; x++) {
      if (status.get(x) !== rec.status) throw new Error(`byte ${x}: ${rec.status}, expected ${status.get(x)}`);
    }
    sums[rec.status]! += rec.endSeq - rec.seq;
    if (rec.status === SACKED && !wasSacked) runs++;
    wasSacked = rec.status === SACKED;
    seq = rec.endSeq;
    records++;
  }
  if (seq !== nxt) throw new Error(`ends at ${seq}, expected ${nxt}`);
  if (board.inFlightBytes !== sums[IN_FLIGHT] || board.lostBytes !== sums[LOST] || board.sackedBytes !== sums[SACKED]) {
    throw new Error('byte counts');
  }
  if (board.recordCount !== records || board.sackRuns !== runs) throw new Error('record or run count');
  let lost = 0;
  let previous = -1;
  for (let rec = board.firstLost; rec !== null; rec = rec.queueNext) {
    if (rec.seq < previous) throw new Error('lost list out of order');
    previous = rec.seq;
    lost += rec.endSeq - rec.seq;
  }
  let flying = 0;
  for (let rec = board.oldestInFlight; rec !== null; rec = rec.queueNext) flying += rec.endSeq - rec.seq;
  if (lost !== sums[LOST] || flying !== sums[IN_FLIGHT]) throw new Error('queues');
}

test('the cost of an ACK does not grow with what is in flight', (t) => {
  // Counted, not timed: the records that a SACK or an ACK makes the board deliver are those that it newly covers.
  let touched = 0;
  const board = new Scoreboard({ onDelivered: () => touched++, onAcked: () => {} });
  for (let i = 0; i < 10_000; i++)
    board.append(i, 1 + i * 100, { lengthBytes: 100, parts: PARTS, firstOffset: 0, tag: null });
  for (let i = 2; i <= 5_000; i++) board.sack(101, 1 + i * 100);
  t.is(touched, 4_999);
  t.is(board.sackRuns, 1);
  board.ackTo(101);
  t.is(touched, 5_000);
});

test('pacer: credit accrues at the rate, is capped at 2 ms, may be overdrawn', (t) => {
  const pacer = new Pacer(65_280);
  pacer.update(0, Number.POSITIVE_INFINITY, 1_448);
  t.is(pacer.allowanceBytes, Number.POSITIVE_INFINITY);
  pacer.update(0, 10_000_000, 1_448);
  t.is(pacer.quantumBytes, 6 * 1_448);
  t.is(pacer.allowanceBytes, 20_000);
  pacer.spend(30_000);
  t.is(pacer.allowanceBytes, 0);
  t.is(pacer.readyAtUs(0), Math.ceil((6 * 1_448 + 10_000) / 10));
  pacer.update(1_868, 10_000_000, 1_448);
  t.is(pacer.allowanceBytes, 0);
  pacer.update(1_869, 10_000_000, 1_448);
  t.is(pacer.allowanceBytes, 8_690);
  pacer.update(1_000_000, 10_000_000, 1_448);
  t.is(pacer.allowanceBytes, 20_000);
});

test('pacer: where wake-ups are late as a rule the cap follows, within bounds; lost credit is reported', (t) => {
  const pacer = new Pacer(65_280);
  const rate = 10_000_000;
  pacer.update(0, rate, 1_448);
  pacer.spend(pacer.allowanceBytes);
  let nowUs = 0;
  const wakeLate = (lateUs: number) => {
    nowUs = pacer.awaitCredit(nowUs) + lateUs;
    pacer.update(nowUs, rate, 1_448);
    const sent = pacer.allowanceBytes;
    pacer.spend(sent);
    return sent;
  };
  t.is(wakeLate(10_000), 20_000);
  t.true(pacer.takeLostCredit());
  t.false(pacer.takeLostCredit());
  for (let i = 0; i < 60; i++) wakeLate(10_000);
  pacer.takeLostCredit();
  const sent = wakeLate(10_000);
  t.true(sent > 100_000 && sent <= 200_000, `${sent}`);
  t.false(pacer.takeLostCredit());
  for (let i = 0; i < 60; i++) wakeLate(100_000);
  t.is(wakeLate(100_000), 250_000);
  t.true(pacer.takeLostCredit());
});

test('pacer: silence for want of bytes is not lateness', (t) => {
  const pacer = new Pacer(65_280);
  pacer.update(0, 10_000_000, 1_448);
  pacer.spend(pacer.allowanceBytes);
  pacer.awaitCredit(0);
  pacer.forget();
  pacer.update(5_000_000, 10_000_000, 1_448);
  t.is(pacer.allowanceBytes, 20_000);
  t.false(pacer.takeLostCredit());
});

test('K11: PRR in numbers: half of what arrives while above ssthresh, then up to it', (t) => {
  const prr = new ProportionalRateReduction();
  prr.enter(20_000);
  prr.onAck(1_000, 19_000, 10_000, 1_000, false);
  t.is(prr.quotaBytes, 1_000, 'the fast retransmission');
  prr.onSent(1_000);
  prr.onAck(1_000, 18_000, 10_000, 1_000, false);
  t.is(prr.quotaBytes, 0);
  prr.onAck(2_000, 16_000, 10_000, 1_000, false);
  t.is(prr.quotaBytes, 1_000);
  prr.onAck(1_000, 5_000, 10_000, 1_000, true);
  t.is(prr.quotaBytes, 5_000, 'slow start towards ssthresh, by what was delivered so far');
});

test('delivery rate: bytes over the longer of send and ACK interval; idle time does not count', (t) => {
  const rate = new DeliveryRate();
  const send = (nowUs: number, isFirst: boolean) => {
    const rec = new SentRecord();
    rec.sentUs = nowUs;
    rate.onSent(nowUs, rec, isFirst);
    return rec;
  };
  const a = send(1_000_000, true);
  const b = send(1_010_000, false);
  rate.beginAck();
  rate.onDelivered(1_100_000, a, 1_000);
  rate.endAck(1_100_000, 50_000);
  t.is(rate.sampleBytesPerS, 10_000, '1000 bytes in 100 ms');
  rate.beginAck();
  rate.onDelivered(1_110_000, b, 1_000);
  rate.endAck(1_110_000, 50_000);
  t.is(Math.round(rate.sampleBytesPerS), Math.round((2_000 * 1e6) / 110_000));
  rate.onAppLimited(0);
  const c = send(9_000_000, true);
  rate.beginAck();
  rate.onDelivered(9_100_000, c, 1_000);
  rate.endAck(9_100_000, 50_000);
  t.is(rate.sampleBytesPerS, 10_000);
  t.true(rate.sampleIsAppLimited);
  rate.beginAck();
  rate.endAck(9_200_000, 50_000);
  t.is(rate.sampleBytesPerS, 0);
});

test('S6: the timestamp clock ticks by the millisecond from a secret offset, and wraps', (t) => {
  const ts = new Timestamps(0xffff_fff0);
  t.is(ts.valueAt(0), 0xffff_fff0);
  t.is(ts.valueAt(15_999), 0xffff_ffff);
  t.is(ts.valueAt(16_000), 0);
  t.is(ts.ageUs(20_000, 0xffff_ffff), 5_000);
});

test('T6: the limiter holds one second of tokens', (t) => {
  const limiter = new TokenBucket(2);
  t.deepEqual(
    [1, 2, 3].map(() => limiter.take(0)),
    [true, true, false],
  );
  t.false(limiter.take(400_000));
  t.true(limiter.take(500_000));
});

test('RFC 6298 5.7: after an outage the first sample of what was sent since begins anew; what the outage stretched is no sample', (t) => {
  const rtt = new RttEstimator(1_000_000, 200_000, 60_000_000);
  for (let i = 0; i < 20; i++) rtt.onSample(i * 20_000, 20_000, 1);
  for (const r of [900_000, 500_000]) rtt.onSample(2_000_000, r, 1);
  t.true(rtt.rttVarUs > 150_000);
  rtt.restart(3_000_000);
  t.deepEqual([rtt.srttUs, rtt.rttVarUs, rtt.rtoUs], [20_000, 10_000, 220_000], 'until then, what it was at its best');
  rtt.onSample(3_010_000, 700_000, 1);
  t.is(rtt.srttUs, 20_000, 'sent before');
  rtt.onSample(3_040_000, 40_000, 1);
  t.deepEqual([rtt.srttUs, rtt.rttVarUs], [40_000, 20_000]);
  rtt.onSample(3_080_000, 48_000, 1);
  t.is(rtt.srttUs, 41_000, 'and the next ones are averaged as ever');
});
