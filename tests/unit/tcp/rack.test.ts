/** RACK and TLP in numbers (RFC 8985 6.2 to 7.4), where a trace would not show them. */
import test from 'ava';
import { LossProbe } from '../../../src/core/tcp/loss-probe.js';
import { isSentAfter, Rack } from '../../../src/core/tcp/rack.js';
import { RttEstimator } from '../../../src/core/tcp/rtt.js';
import { Scoreboard, type SentRecord } from '../../../src/core/tcp/scoreboard.js';
import { TcpScript } from '../../support/tcp-script.js';

const MSS = 1_000;
const UNIT = { lengthBytes: MSS, parts: [new Uint8Array(MSS)], firstOffset: 0, tag: null };

function measured(rttUs: number): RttEstimator {
  const rtt = new RttEstimator(1_000_000, 200_000, 60_000_000);
  rtt.onSample(0, rttUs, 1);
  return rtt;
}

/** `count` segments sent one after the other, `gapUs` apart. */
function flight(count: number, gapUs: number): { board: Scoreboard; records: SentRecord[] } {
  const board = new Scoreboard({ onDelivered: () => {}, onAcked: () => {} });
  const records = Array.from({ length: count }, (_, i) => board.append(i * gapUs, 1 + i * MSS, UNIT));
  return { board, records };
}

test('R1: what was sent at the same time is told apart by its end', (t) => {
  t.true(isSentAfter(10, 1, 9, 5));
  t.true(isSentAfter(10, 6, 10, 5));
  t.false(isSentAfter(10, 5, 10, 5));
  const { board, records } = flight(5, 0);
  const rack = new Rack();
  rack.onDelivered(100_000, records[2]!, records[2]!.endSeq, measured(100_000), false);
  const lost: SentRecord[] = [];
  rack.detect(100_000, board, 0, (rec) => lost.push(rec));
  t.deepEqual(lost, records.slice(0, 2));
});

test('R2: a retransmission acknowledged too soon, or by an older echo, says nothing', (t) => {
  const rtt = measured(100_000);
  for (const [nowUs, echoIsOlder, isBelieved] of [
    [1_050_000, false, false],
    [1_150_000, true, false],
    [1_150_000, false, true],
  ] as const) {
    const { board, records } = flight(1, 0);
    board.markRetransmitted(1_000_000, records[0]!);
    const rack = new Rack();
    rack.onDelivered(nowUs, records[0]!, records[0]!.endSeq, rtt, echoIsOlder);
    t.is(rack.xmitUs, isBelieved ? 1_000_000 : 0);
  }
});

test('R3: the window: none, a quarter of the minimum RTT, more with each round that has a DSACK, at most SRTT', (t) => {
  const rtt = measured(100_000);
  const { board } = flight(10, 0);
  const rack = new Rack();
  const window = (inRecovery = false) => rack.reoWndUs(rtt, board, MSS, inRecovery);
  t.is(window(), 25_000);
  t.is(window(true), 0, 'in recovery');
  board.sack(1 + MSS, 1 + 4 * MSS);
  t.is(window(), 0, 'three segments SACKed');
  rack.reorderingSeen = true;
  t.is(window(true), 25_000);
  rack.onDsack(1, 10_001);
  rack.onDsack(10_000, 20_001);
  t.is(window(), 50_000, 'once in a round trip');
  rack.onDsack(10_001, 20_001);
  t.is(window(), 75_000, 'the round is over when SND.UNA reaches its end');
  for (let una = 20_001; una < 100_000; una += 10_000) rack.onDsack(una, una + 10_000);
  t.is(window(), 100_000, 'SRTT');
  for (let i = 0; i < 15; i++) rack.onRecoveryExit();
  t.is(window(), 100_000);
  rack.onRecoveryExit();
  t.is(window(), 25_000, 'after 16 recoveries without one');
});

test('R3: the end of an RTO recovery counts among the 16', (t) => {
  const s = TcpScript.established();
  const mss = s.sf.mssBytes;
  const at = (i: number) => 1 + i * mss;
  s.owner.toSend = 4 * mss;
  s.out();
  s.nowUs += 10_000;
  // A DSACK widens the window from 2.5 to 5 ms, and reordering makes it count.
  s.inject({ ack: at(2), sack: [[at(3), at(4)]] });
  s.inject({ ack: at(4) });
  s.inject({ ack: at(4), sack: [[at(3), at(4)]] });
  let sent = 4;
  const holeIsGivenUpAfterMs = () => {
    s.owner.toSend += 2 * mss;
    s.out();
    s.nowUs += 10_000;
    s.sf.onTimer(s.nowUs);
    s.out();
    const una = at(sent);
    s.exchange({ ack: una, sack: [[una + mss, una + 2 * mss]] });
    const again = s.advance(9_000).find((x) => x.seq === una);
    sent += 2;
    s.nowUs += 10_000;
    s.inject({ ack: at(sent) });
    s.out();
    return again?.atMs;
  };
  t.is(holeIsGivenUpAfterMs(), 5);
  for (let i = 0; i < 16; i++) {
    s.owner.toSend += mss;
    s.out();
    while (s.sf.stats.rtos === i) s.advance(10_000);
    s.advance(20_000);
    s.inject({ ack: at(++sent) });
    s.out();
  }
  s.advance(1_000_000); // pacing credit for both segments at once
  t.is(holeIsGivenUpAfterMs(), 2.5);
});

test('R4: late but not yet lost: the timer is set for the last of them', (t) => {
  const { board, records } = flight(4, 1_000);
  const rack = new Rack();
  rack.onDelivered(103_000, records[3]!, records[3]!.endSeq, measured(100_000), false);
  const lost: SentRecord[] = [];
  rack.detect(103_000, board, 2_000, (rec) => lost.push(rec));
  t.deepEqual(lost, records.slice(0, 2));
  t.is(rack.deadlineUs, 2_000 + 100_000 + 2_000);
});

test('R6: at an RTO what is older than a round trip is lost, what is younger is not', (t) => {
  const { board, records } = flight(4, 10_000);
  const rack = new Rack();
  rack.rttUs = 100_000;
  const lost: SentRecord[] = [];
  rack.detectOnRto(115_000, board, 0, (rec) => {
    lost.push(rec);
    board.markLost(rec);
  });
  t.deepEqual(lost, records.slice(0, 2));
});

test('R7: the probe timeout is 2 SRTT, and longer for a single segment, whose ACK may be delayed', (t) => {
  const probe = new LossProbe();
  const rtt = measured(100_000);
  t.is(probe.timeoutUs(rtt, false), 200_000);
  t.is(probe.timeoutUs(rtt, true), 400_000);
});

test('R7: one probe, and no further one before an RTT was measured (RFC 8985 7.3)', (t) => {
  const probe = new LossProbe();
  const rtt = new RttEstimator(1_000_000, 200_000, 60_000_000);
  t.false(probe.mayProbe(rtt), 'nothing measured since the start');
  rtt.onSample(0, 100_000, 1);
  t.true(probe.mayProbe(rtt));
  probe.onProbeSent(5_000, true, rtt);
  t.false(probe.mayProbe(rtt));
  t.true(probe.onAck(5_001, -1, false));
  t.false(probe.mayProbe(rtt), 'over, but nothing measured');
  rtt.onSample(1, 100_000, 1);
  t.true(probe.mayProbe(rtt));
});

test('R7: no probe without SACK, in recovery, or when something is SACKed', (t) => {
  const send = (sackOk: boolean) => {
    const s = TcpScript.established({ peer: { sackOk }, config: { minRtoUs: 2_000_000 } });
    s.owner.toSend = 3 * s.sf.mssBytes;
    s.out();
    return s;
  };
  const plain = send(false);
  plain.advance(1_000_000);
  t.is(plain.sf.stats.tlps, 0);
  const watched = send(true);
  watched.advance(1_000_000);
  t.is(watched.sf.stats.tlps, 1);
  const sacked = send(true);
  const mss = sacked.sf.mssBytes;
  sacked.inject({ ack: 1, sack: [[1 + mss, 1 + 2 * mss]] });
  sacked.advance(1_000_000);
  t.is(sacked.sf.stats.tlps, 0);
});

test('R8: without new data the probe is the last segment, not the first', (t) => {
  const s = TcpScript.established({ config: { minRtoUs: 2_000_000 } });
  for (let i = 0; i < 3; i++) {
    s.owner.toSend += s.sf.mssBytes;
    s.out();
  }
  const [probe] = s.advance(1_000_000);
  t.is(probe!.seq, 1 + 2 * s.sf.mssBytes);
  t.is(probe!.len, s.sf.mssBytes);
});

test('R9: what tells that a probe repaired a loss (RFC 8985 7.4.2)', (t) => {
  const probed = (isRetransmission: boolean) => {
    const probe = new LossProbe();
    probe.onProbeSent(5_000, isRetransmission, measured(1));
    return probe;
  };
  t.true(probed(true).onAck(5_001, -1, false), 'acknowledged, and never reported as duplicate');
  t.false(probed(true).onAck(5_000, 5_000, false), 'DSACK: the original had arrived');
  const duplicate = probed(true);
  t.false(duplicate.onAck(5_000, -1, true), 'a duplicate ACK without SACK: the same');
  t.false(duplicate.isActive);
  t.false(probed(false).onAck(5_001, -1, false), 'new data: RACK sees for itself');
  const early = probed(true);
  t.false(early.onAck(4_999, -1, false));
  t.true(early.isActive);
});
