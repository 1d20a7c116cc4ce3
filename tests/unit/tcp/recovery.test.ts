/** Loss detection and recovery: RFC 6298, 6675, 8985, 6937, 3522, 5682, 6582; checklist O3-O5, K2-K12, R1-R9. */
import test from 'ava';
import { controllers } from '../../../src/core/congestion/index.js';
import { brief, type ScriptOptions, TcpScript } from '../../support/tcp-script.js';

const MSS = 1448;
const RTT_US = 100_000;

/** Established with a 100 ms RTT; `segments` full segments sent (and the window wide enough for them). */
function sending(segments: number, options: ScriptOptions = {}): TcpScript {
  const s = new TcpScript(options);
  s.sf.connect(s.nowUs);
  s.out();
  s.nowUs += RTT_US;
  s.inject({ flags: 'S.', seq: 0, ack: 1, ...s.synOptions() });
  s.owner.toSend = segments * MSS;
  s.out();
  while (s.owner.pulled < segments * MSS) {
    s.nowUs += 1_000;
    s.sf.onTimer(s.nowUs);
    s.out();
  }
  return s;
}

/** First byte of segment i, counting from 0. */
const at = (i: number) => 1 + i * MSS;

test('K4, K5: three SACKed segments above a hole: it is sent again, once, and the window comes down once', (t) => {
  const s = sending(10);
  const cwnd = s.sf.cc.cwndBytes;
  s.nowUs += RTT_US;
  t.deepEqual(brief(s.exchange({ ack: 1, sack: [[at(1), at(2)]] })), []);
  t.deepEqual(brief(s.exchange({ ack: 1, sack: [[at(1), at(3)]] })), []);
  t.deepEqual(brief(s.exchange({ ack: 1, sack: [[at(1), at(4)]] })), [`. ${at(0)}:${at(1)} ack 1`]);
  t.true(s.sf.isRecovering);
  t.true(s.sf.cc.cwndBytes < cwnd);
  const reduced = s.sf.cc.cwndBytes;
  t.deepEqual(brief(s.exchange({ ack: 1, sack: [[at(1), at(5)]] })), []);
  t.is(s.sf.cc.cwndBytes, reduced);
  s.nowUs += RTT_US;
  s.inject({ ack: at(10) });
  t.false(s.sf.isRecovering);
  t.is(s.sf.stats.fastRecoveries, 1);
  t.is(s.sf.stats.bytesRetransmitted, MSS);
});

test('R3: one segment overtaken: nothing is sent again', (t) => {
  const s = sending(10);
  s.nowUs += RTT_US;
  s.exchange({ ack: 1, sack: [[at(1), at(2)]] });
  s.nowUs += 2_000;
  t.deepEqual(brief(s.exchange({ ack: at(2) })), []);
  t.is(s.sf.stats.segmentsLost, 0);
});

test('R4: with one SACK only, the reordering timer (a quarter of the minimum RTT) gives the hole up', (t) => {
  const s = sending(4);
  s.nowUs += RTT_US;
  t.deepEqual(brief(s.exchange({ ack: 1, sack: [[at(1), at(2)]] })), []);
  const late = s.advance(60_000);
  t.deepEqual(brief(late), [`. ${at(0)}:${at(1)} ack 1`]);
  t.is(late[0]!.atMs, 25);
});

test('R3: once reordering was seen, three SACKs do not suffice at once', (t) => {
  const s = sending(10);
  s.nowUs += RTT_US;
  s.exchange({ ack: 1, sack: [[at(1), at(2)]] });
  s.exchange({ ack: at(2) }); // reordering seen
  t.deepEqual(brief(s.exchange({ ack: at(2), sack: [[at(3), at(6)]] })), []);
  t.deepEqual(brief(s.advance(30_000)), [`. ${at(2)}:${at(3)} ack 1`]);
});

test('R5: a retransmission that is lost is sent again without a timeout', (t) => {
  const s = sending(10, { config: { minRtoUs: 2_000_000 } });
  s.nowUs += RTT_US;
  t.deepEqual(brief(s.exchange({ ack: 1, sack: [[at(1), at(5)]] })), [`. ${at(0)}:${at(1)} ack 1`]);
  // New data goes out after it and is SACKed a round trip later; the retransmission is not.
  s.owner.toSend += 2 * MSS;
  s.nowUs += 50_000;
  s.sf.onTimer(s.nowUs);
  s.exchange({ ack: 1, sack: [[at(1), at(9)]] });
  s.nowUs += 10_000;
  const fresh = s.exchange({ ack: 1, sack: [[at(1), at(10)]] });
  t.true(s.owner.pulled > 10 * MSS, 'new data left in recovery');
  t.deepEqual(
    fresh.filter((x) => x.seq === at(0)),
    [],
  );
  t.is(s.sf.stats.segmentsLost, 1, 'what was sent before it says nothing about the retransmission');
  s.nowUs += RTT_US + 30_000;
  t.deepEqual(brief(s.exchange({ ack: 1, sack: [[at(1), at(11)]] })).slice(0, 1), [`. ${at(0)}:${at(1)} ack 1`]);
  t.is(s.sf.stats.rtos, 0);
});

test('K6: the first SACKs let new data out before any loss is declared (limited transmit)', (t) => {
  const s = sending(10, { config: { initialCwndSegments: 10 } });
  s.owner.toSend += 10 * MSS;
  s.nowUs += RTT_US;
  t.deepEqual(brief(s.exchange({ ack: 1, sack: [[at(1), at(2)]] })), [
    `. ${at(10)}:${at(11)} ack 1`,
    `. ${at(11)}:${at(12)} ack 1`,
  ]);
  s.nowUs += 10_000;
  t.is(s.exchange({ ack: 1, sack: [[at(1), at(3)]] })[0]!.seq, at(12));
  t.is(s.sf.stats.bytesRetransmitted, 0);
});

test('K11: PRR sends in proportion to what arrives and ends at ssthresh', (t) => {
  const config = { initialCwndSegments: 40, congestion: controllers.reno! };
  const s = sending(40, { config, peer: { wscale: 8 } });
  s.owner.toSend += 200 * MSS;
  s.nowUs += RTT_US;
  let sent = 0;
  let most = 0;
  for (let i = 4; i <= 40; i++) {
    s.nowUs += 3_000;
    s.sf.onTimer(s.nowUs);
    const n = s.exchange({ ack: 1, sack: [[at(1), at(i)]] }).length;
    sent += n;
    most = Math.max(most, n);
  }
  t.is(s.sf.cc.ssthreshBytes, 20 * MSS);
  t.true(Math.abs(s.sf.inFlightBytes - s.sf.cc.ssthreshBytes) <= 3 * MSS, `${s.sf.inFlightBytes}`);
  t.true(most <= 3, `burst of ${most}`);
  t.true(sent >= 18 && sent <= 24, `${sent}`);
});

test('R7, R8: a lost tail: after two round trips the last segment goes again, long before the RTO', (t) => {
  const s = sending(3);
  const probes = s.advance(230_000);
  t.deepEqual(
    brief(probes),
    [`P. ${at(2)}:${at(3)} ack 1`].map((x) => x.replace('P.', '.')),
  );
  t.is(probes[0]!.atMs, 200);
  t.is(s.sf.stats.tlps, 1);
  t.is(s.sf.stats.rtos, 0);
});

test('R8: the probe is new data where there is some', (t) => {
  const s = sending(10);
  s.owner.toSend += MSS;
  t.deepEqual(brief(s.advance(230_000)).at(-1), `P. ${at(10)}:${at(11)} ack 1`);
  t.is(s.sf.stats.bytesRetransmitted, 0);
});

test('R9: a probe that repaired the loss still costs a window reduction; one that was in vain does not', (t) => {
  const s = sending(3);
  const cwnd = s.sf.cc.cwndBytes;
  s.advance(200_000);
  s.nowUs += RTT_US;
  s.inject({ ack: at(3) });
  s.owner.toSend += MSS;
  s.out();
  s.nowUs += RTT_US;
  s.inject({ ack: at(4) });
  t.true(s.sf.cc.cwndBytes < cwnd);

  const d = sending(3);
  const before = d.sf.cc.cwndBytes;
  d.advance(200_000);
  d.inject({ ack: at(3) });
  d.inject({ ack: at(3), sack: [[at(2), at(3)]] });
  d.owner.toSend += MSS;
  d.out();
  d.nowUs += RTT_US;
  d.inject({ ack: at(4) });
  t.true(d.sf.cc.cwndBytes >= before);
});

test('O5: RTO: earliest first, doubled each time, owner told; progress ends it', (t) => {
  const s = sending(0, { peer: { sackOk: false } });
  s.owner.toSend = 500; // not a full segment: no suspicion of the path MTU
  s.out();
  const rto = s.sf.rtt.rtoUs;
  t.is(rto, 300_000, 'SRTT 100 ms + 4 * 50 ms');
  const sent = s.advance(3_000_000);
  t.deepEqual(
    sent.map((x) => [x.seq, x.atMs]),
    [
      [1, 300],
      [1, 900],
      [1, 2100],
    ],
  );
  t.deepEqual(s.owner.events.slice(1), ['rto:1', 'rto:2', 'rto:3']);
  t.is(s.sf.rtoCount, 3);
  s.inject({ ack: 501 });
  t.is(s.sf.rtoCount, 0);
  t.is(s.sf.nextDeadline(), Number.POSITIVE_INFINITY);
});

test('R6: an RTO gives up the first segment and the old ones, not what was sent just now', (t) => {
  const s = sending(4, { config: { delayedAckUs: 1 } });
  const lost: number[] = [];
  const onLost = s.owner.onLost.bind(s.owner);
  s.owner.onLost = (...args: unknown[]) => {
    lost.push(args[2] as number);
    onLost();
  };
  s.advance(200_000); // the tail probe, which the RTO must outlive
  s.advance(1_000_000);
  t.is(s.sf.stats.rtos > 0, true);
  t.is(lost[0], at(0));
  t.true(s.sf.cc.cwndBytes <= 2 * MSS);
});

test('K2: SACKed data is not sent again after an RTO, unless the receiver took it back', (t) => {
  const s = sending(4, { config: { minRtoUs: 400_000 } });
  s.nowUs += RTT_US;
  s.exchange({ ack: 1, sack: [[at(2), at(4)]] });
  const sent = s.advance(700_000);
  t.true(s.sf.stats.rtos >= 1);
  t.false(
    sent.some((x) => x.seq >= at(2)),
    brief(sent).join(', '),
  );
  // The cumulative ACK stops short of SACKed data: at the next RTO it goes again.
  s.exchange({ ack: at(2), sack: [[at(3), at(4)]] });
  const again = s.advance(3_000_000);
  t.true(
    again.some((x) => x.seq === at(2)),
    brief(again).join(', '),
  );
});

test('K13: Eifel: the ACK echoes the original: the reduction is undone', (t) => {
  const s = sending(10);
  const cwnd = s.sf.cc.cwndBytes;
  const [ts] = [s.peerTs];
  s.nowUs += RTT_US;
  const tsOfOriginals = s.exchange({ ack: 1, sack: [[at(1), at(4)]] })[0]!.ts![0] - 100;
  t.true(s.sf.cc.cwndBytes < cwnd);
  s.nowUs += 5_000;
  s.inject({ ack: at(4), ts: [ts + 200, tsOfOriginals] });
  t.is(s.sf.stats.spurious, 1);
  t.false(s.sf.isRecovering);
  t.true(s.sf.cc.cwndBytes >= cwnd);
});

test('K13: DSACK for all that was retransmitted: undone', (t) => {
  const s = sending(10, { config: { useTimestamps: false }, peer: { ts: false } });
  const cwnd = s.sf.cc.cwndBytes;
  const size = s.sf.mssBytes;
  s.nowUs += RTT_US;
  t.is(s.exchange({ ack: 1, sack: [[1 + size, 1 + 4 * size]] })[0]!.seq, 1);
  t.true(s.sf.cc.cwndBytes < cwnd);
  s.inject({ ack: 1 + 4 * size });
  s.nowUs += RTT_US;
  s.inject({ ack: 1 + 4 * size, sack: [[1, 1 + size]] });
  t.is(s.sf.stats.spurious, 1);
  t.true(s.sf.cc.cwndBytes >= cwnd);
});

test('K13: F-RTO: after a timeout the originals arrive: the timeout was spurious', (t) => {
  const s = sending(6, { config: { useTimestamps: false }, peer: { ts: false } });
  const size = s.sf.mssBytes;
  const cwnd = s.sf.cc.cwndBytes;
  s.advance(600_000);
  t.is(s.sf.stats.rtos, 1);
  t.true(s.sf.cc.cwndBytes < cwnd);
  s.inject({ ack: 1 + 3 * size });
  t.is(s.sf.stats.spurious, 1);
  t.true(s.sf.cc.cwndBytes >= cwnd);
  t.is(s.owner.events.at(-1), 'rto:1');
});

test('O4: Karn: without timestamps a retransmitted segment yields no sample', (t) => {
  const s = sending(1, { config: { useTimestamps: false }, peer: { ts: false } });
  const { srttUs } = s.sf.rtt;
  s.advance(350_000);
  t.true(s.sf.stats.bytesRetransmitted > 0);
  s.nowUs += 777_000;
  s.inject({ ack: s.sf.sndNxt });
  t.is(s.sf.inFlightBytes, 0);
  t.is(s.sf.rtt.srttUs, srttUs);
});

test('R2: an ACK that answers the original does not teach RACK the retransmission’s time', (t) => {
  const s = sending(10, { config: { minRtoUs: 3_000_000 } });
  s.nowUs += RTT_US;
  s.exchange({ ack: 1, sack: [[at(1), at(4)]] });
  s.nowUs += 1_000;
  // The original arrives 1 ms after the retransmission left: nothing later is judged by the retransmission.
  s.exchange({ ack: at(4), ts: [s.peerTs, s.peerTs] });
  t.is(s.sf.stats.segmentsLost, 1);
});

test('K12: without SACK, the third duplicate ACK and each partial ACK send one segment again', (t) => {
  const s = sending(10, { peer: { sackOk: false } });
  s.nowUs += RTT_US;
  t.deepEqual(brief(s.exchange({ ack: 1 })), []);
  t.deepEqual(brief(s.exchange({ ack: 1 })), []);
  t.deepEqual(brief(s.exchange({ ack: 1 })), [`. ${at(0)}:${at(1)} ack 1`]);
  t.deepEqual(brief(s.exchange({ ack: 1 })), []);
  s.nowUs += RTT_US;
  t.deepEqual(brief(s.exchange({ ack: at(4) })), [`. ${at(4)}:${at(5)} ack 1`]);
  t.true(s.sf.isRecovering);
  s.nowUs += RTT_US;
  s.exchange({ ack: at(10) });
  t.false(s.sf.isRecovering);
  t.is(s.sf.stats.fastRecoveries, 1);
});

test('K10: after idling longer than the RTO the window starts again from the initial one', (t) => {
  const s = sending(10);
  for (let i = 0; i < 4; i++) {
    s.nowUs += RTT_US;
    s.inject({ ack: s.sf.sndNxt });
    s.owner.toSend += 40 * MSS;
    s.out();
    s.advance(90_000);
  }
  s.inject({ ack: s.sf.sndNxt });
  t.true(s.sf.cc.cwndBytes > 14_480);
  s.nowUs += 5_000_000;
  s.owner.toSend += MSS;
  s.out();
  t.true(s.sf.cc.cwndBytes <= 14_480);
});

test('a SACK that ends inside a unit splits it: both parts keep the tag and their bytes', (t) => {
  const s = new TcpScript();
  s.owner.isTagged = true;
  s.sf.connect(s.nowUs);
  s.out();
  s.nowUs += RTT_US;
  s.inject({ flags: 'S.', seq: 0, ack: 1, ...s.synOptions() });
  s.owner.toSend = 10 * MSS;
  const whole = s.outWhole();
  t.true(
    whole.some((x) => (x.gso ?? 0) === MSS),
    'a super-packet left',
  );
  s.nowUs += RTT_US;
  s.exchange({ ack: 1, sack: [[at(0) + 700, at(1) + 300]] });
  const seen: [number, number, boolean][] = [];
  s.sf.forEachUnacked((seq, length, tag, isSacked) => {
    const { at: from, lengthBytes } = tag as { at: number; lengthBytes: number };
    t.true(seq - 1 >= from && seq - 1 + length <= from + lengthBytes);
    seen.push([seq, length, isSacked]);
  });
  t.deepEqual(seen.slice(0, 2), [
    [1, 700, false],
    [701, MSS - 400, true],
  ]);
});

test('K12: without SACK each further duplicate ACK lets new data out, in proportion (RFC 6937 3)', (t) => {
  const s = sending(20, {
    peer: { sackOk: false },
    config: { initialCwndSegments: 20, congestion: controllers.reno! },
  });
  s.owner.toSend += 100 * MSS;
  const before = s.owner.pulled;
  s.nowUs += RTT_US;
  for (let i = 0; i < 19; i++) {
    s.nowUs += 5_000;
    s.sf.onTimer(s.nowUs);
    s.exchange({ ack: 1 });
  }
  const fresh = (s.owner.pulled - before) / MSS;
  t.true(fresh >= 8 && fresh <= 12, `${fresh}`);
  t.is(s.sf.stats.fastRecoveries, 1);
});
