/** Receiving: RFC 9293 3.10.7.4, RFC 5961, 7323, 2018, 2883; checklist T2-T6, T15-T17, T21, S3-S5, K1, K3, E2. */
import test from 'ava';
import { controllers } from '../../../src/core/congestion/index.js';
import { DEFAULT_SUBFLOW_CONFIG, SubflowStats } from '../../../src/core/tcp/config.js';
import { Receiver } from '../../../src/core/tcp/receiver.js';
import { StreamOwner } from '../../support/tcp-pair.js';
import { brief, TcpScript } from '../../support/tcp-script.js';

const MSS = 1448;

/** Established, past the quick ACKs of the beginning. */
function steady(options: ConstructorParameters<typeof TcpScript>[0] = {}): TcpScript {
  return TcpScript.established({ ...options, config: { quickAckSegments: 0, ...options.config } });
}

test('T17: every second full segment is acknowledged at once, a single one after the delay', (t) => {
  const s = steady();
  s.exchange({ len: MSS });
  s.exchange({ len: MSS });
  t.deepEqual(brief(s.exchange({ len: MSS })), []);
  t.deepEqual(brief(s.exchange({ len: MSS })), [`. 1 ack ${1 + 4 * MSS}`]);
  t.deepEqual(brief(s.exchange({ len: 10 })), []);
  const late = s.advance(500_000);
  t.deepEqual(brief(late), [`. 1 ack ${11 + 4 * MSS}`]);
  t.is(late[0]!.atMs, 40);
});

test('T17: a super-packet is acknowledged once; the first 16 segments each at once', (t) => {
  const s = steady();
  t.deepEqual(brief(s.exchange({ len: 20 * MSS, gso: MSS })), [`. 1 ack ${1 + 20 * MSS}`]);
  const q = TcpScript.established();
  for (let i = 1; i <= 16; i++) t.is(q.exchange({ len: MSS }).length, 1, `segment ${i}`);
  t.is(q.exchange({ len: MSS }).length, 0);
});

test('data carries the ACK: no pure one follows', (t) => {
  const s = steady();
  s.inject({ len: 2 * MSS });
  s.owner.toSend = 50;
  t.deepEqual(brief(s.out()), [`P. 1:51 ack ${1 + 2 * MSS}`]);
});

test('T17, K1: out of order and hole filling are acknowledged at once, the latest block first', (t) => {
  const s = steady();
  t.deepEqual(brief(s.exchange({ seq: 101, len: 100 })), ['. 1 ack 1 sack 101-201']);
  t.deepEqual(brief(s.exchange({ seq: 301, len: 100 })), ['. 1 ack 1 sack 301-401 101-201']);
  t.deepEqual(brief(s.exchange({ seq: 501, len: 100 })), ['. 1 ack 1 sack 501-601 301-401 101-201']);
  t.deepEqual(brief(s.exchange({ seq: 701, len: 100 })), ['. 1 ack 1 sack 701-801 501-601 301-401']);
  t.deepEqual(brief(s.exchange({ seq: 201, len: 100 })), ['. 1 ack 1 sack 101-401 701-801 501-601']);
  t.deepEqual(brief(s.exchange({ seq: 1, len: 100 })), ['. 1 ack 401 sack 701-801 501-601']);
  t.is(s.owner.received, 400);
  t.is(s.sf.maxRcvNxt, 801);
  t.is(s.owner.mismatches, 0);
});

test('K1: without timestamps four blocks fit; beside 20 bytes of options of the owner none', (t) => {
  const s = steady({ peer: { ts: false } });
  for (const seq of [101, 301, 501]) s.exchange({ seq, len: 100 });
  t.is(s.exchange({ seq: 701, len: 100 })[0]!.sack.length, 4);
  const owner = new StreamOwner();
  owner.optionBytes = 20;
  const full = steady({ owner });
  t.is(full.exchange({ seq: 101, len: 100 })[0]!.sack.length, 0);
  owner.optionBytes = 12; // DSS with 8-byte DATA_ACK: one block
  t.deepEqual(full.exchange({ seq: 301, len: 100 })[0]!.sack, [[301, 401]]);
});

test('SACK blocks wait for a pure ACK when data leaves first', (t) => {
  const s = steady();
  s.owner.toSend = 50;
  s.inject({ seq: 101, len: 100 });
  t.deepEqual(brief(s.out()), ['P. 1:51 ack 1', '. 51 ack 1 sack 101-201']);
});

test('K3: a duplicate is named in the first block, below and above the cumulative point', (t) => {
  const s = steady();
  s.exchange({ seq: 1, len: 300 });
  t.deepEqual(brief(s.exchange({ seq: 101, len: 100 })), ['. 1 ack 301 sack 101-201']);
  s.exchange({ seq: 501, len: 100 });
  t.deepEqual(brief(s.exchange({ seq: 501, len: 100 })), ['. 1 ack 301 sack 501-601 501-601']);
  t.deepEqual(brief(s.exchange({ seq: 251, len: 100 })), ['. 1 ack 351 sack 251-301 501-601'], 'half old, half new');
  t.is(s.sf.stats.dsacksSent, 3);
});

test('T2: acceptability: beyond the window is refused with an ACK, the edge is trimmed', (t) => {
  const owner = new StreamOwner();
  owner.receiveLimitBytes = 1000;
  const s = steady({ owner, config: { quickAckSegments: 0, windowScale: 0 } });
  t.deepEqual(brief(s.exchange({ seq: 1001, len: 10 })), ['. 1 ack 1']);
  t.is(s.sf.stats.dropOutOfWindow, 1);
  owner.readsAtOnce = false;
  t.deepEqual(brief(s.exchange({ seq: 1, len: 1500 })), ['. 1 ack 1001'], 'cut at the right edge');
  t.is(owner.received, 1000);
});

test('T2, T15: a shut window takes no data, but the ACK in it counts', (t) => {
  const owner = new StreamOwner();
  owner.receiveLimitBytes = 1000;
  owner.readsAtOnce = false;
  const s = TcpScript.established({ owner, config: { windowScale: 0 } });
  owner.toSend = 100;
  t.is(s.out()[0]!.len, 100);
  t.is(s.exchange({ seq: 1, ack: 1, len: 1000 })[0]!.win, 0);
  t.is(s.exchange({ seq: 1001, ack: 101, len: 1 })[0]!.ack, 1001);
  t.is(owner.received, 1000);
  t.is(s.sf.sndUna, 101);
});

test('T16: a window opens by a segment at a time, not by crumbs', (t) => {
  const owner = new StreamOwner();
  owner.receiveLimitBytes = 10_000;
  owner.readsAtOnce = false;
  const s = steady({ owner, config: { windowScale: 0 } });
  s.exchange({ len: 1000 });
  s.exchange({ len: 9000, gso: 1000 });
  owner.unreadBytes -= 100;
  s.sf.requestAck(s.nowUs);
  t.is(s.out()[0]!.win, 0);
  owner.unreadBytes -= 1000;
  s.sf.requestAck(s.nowUs);
  t.is(s.out()[0]!.win, 1100);
});

test('T3: RST exactly at RCV.NXT resets; elsewhere in the window it is challenged; outside it is nothing', (t) => {
  const s = steady();
  t.deepEqual(brief(s.exchange({ flags: 'R', seq: 100 })), ['. 1 ack 1']);
  t.is(s.sf.stats.challengeAcks, 1);
  t.deepEqual(brief(s.exchange({ flags: 'R', seq: -5 })), []);
  t.is(s.sf.state, 'established');
  s.inject({ flags: 'R', seq: 1 });
  t.deepEqual(s.owner.events, ['established', 'closed:reset']);
});

test('T4: SYN in a synchronized state is challenged, wherever it lies', (t) => {
  const s = steady();
  t.deepEqual(brief(s.exchange({ flags: 'S', seq: 50 })), ['. 1 ack 1']);
  t.deepEqual(brief(s.exchange({ flags: 'S', seq: -1000 })), ['. 1 ack 1']);
  t.is(s.sf.state, 'established');
});

test('T5: ACK of what was never sent, and of long ago, is challenged', (t) => {
  const s = steady();
  t.deepEqual(brief(s.exchange({ ack: 2, len: 10 })), ['. 1 ack 1']);
  t.deepEqual(brief(s.exchange({ ack: -70_000, len: 10 })), ['. 1 ack 1']);
  t.is(s.sf.stats.dropBadAck, 2);
  t.is(s.owner.received, 0);
});

test('T6: challenge ACKs are rationed', (t) => {
  const s = steady();
  let answers = 0;
  for (let i = 0; i < 100; i++) answers += s.exchange({ flags: 'R', seq: 100 + i }).length;
  t.is(answers, 10);
  t.is(s.sf.stats.challengeAcksSuppressed, 90);
  s.nowUs += 1_000_000;
  t.is(s.exchange({ flags: 'R', seq: 100 }).length, 1);
});

test('S5: a segment from the past is dropped and answered; a RST is not judged by its timestamp', (t) => {
  const s = steady();
  const old: [number, number] = [s.peerTs - 1_011, 0];
  t.deepEqual(brief(s.exchange({ len: 10, ts: old })), ['. 1 ack 1']);
  t.is(s.sf.stats.dropPaws, 1);
  t.is(s.owner.received, 0);
  s.inject({ flags: 'R', seq: 1, ts: old });
  t.is(s.sf.state, 'closed');
});

test('S5: data overtaken by a retransmission is a little older than TS.Recent, and is taken', (t) => {
  const s = steady();
  s.exchange({ seq: 1, len: 10, ts: [s.peerTs + 300, 0] });
  s.exchange({ seq: 11, len: 10, ts: [s.peerTs, 0] });
  t.is(s.owner.received, 20);
  t.is(s.sf.stats.dropPaws, 0);
  s.sf.requestAck(s.nowUs);
  t.is(s.out()[0]!.ts![1], s.peerTs + 300, 'and does not turn the echo back');
});

test('S7: after 24 days of silence TS.Recent is not believed', (t) => {
  const s = steady();
  s.nowUs += 25 * 86_400_000_000;
  // The peer's clock of 1 ms has passed half its range: what is new looks old.
  s.exchange({ len: 10 });
  t.is(s.owner.received, 10);
});

test('S3: a segment without the timestamps that were agreed is taken all the same', (t) => {
  const s = steady();
  s.inject({ len: 10, ts: null });
  t.is(s.owner.received, 10);
});

test('S4: the echo is of the earliest segment not yet acknowledged', (t) => {
  const s = steady();
  s.inject({ len: 10, ts: [s.peerTs + 1, 0] });
  s.inject({ len: 10, ts: [s.peerTs + 2, 0] });
  s.nowUs += 1000;
  const expected = s.peerTs;
  const [ack] = s.advance(50_000);
  t.is(ack!.ts![1], expected, 'TSval of the first');
  s.inject({ seq: 100, len: 10, ts: [s.peerTs + 5, 0] });
  t.is(s.out()[0]!.ts![1], expected, 'out of order does not move it');
});

test('T21: urgent data is ordinary data', (t) => {
  const s = steady();
  s.inject({ flags: 'U.', len: 10 });
  t.is(s.owner.received, 10);
});

test('E2: CE is echoed on every ACK until CWR', (t) => {
  const s = TcpScript.established({ config: { useEcn: true }, peer: { ece: true } });
  t.is(s.exchange({ len: 10, ce: true })[0]!.flags, '.E');
  t.is(s.exchange({ len: 10 })[0]!.flags, '.E');
  t.is(s.exchange({ len: 10, flags: 'W.' })[0]!.flags, '.');
});

test('ranges are limited: one too many is dropped, not delivered, and comes again', (t) => {
  const s = steady({ config: { maxReceiveRanges: 2 } });
  s.exchange({ seq: 101, len: 10 });
  s.exchange({ seq: 201, len: 10 });
  t.is(s.exchange({ seq: 301, len: 10 })[0]!.sack.length, 2);
  t.is(s.sf.stats.dropRangesFull, 1);
  t.is(s.sf.maxRcvNxt, 211);
  s.inject({ seq: 111, len: 10 });
  t.is(s.sf.stats.dropRangesFull, 1, 'one that adjoins a known range is taken');
});

test('a segment without ACK is ignored', (t) => {
  const s = steady();
  t.deepEqual(s.exchange({ flags: 'P', len: 10 }), []);
  t.is(s.sf.stats.dropNoAck, 1);
});

test('the owner may drop a segment', (t) => {
  const s = steady();
  s.owner.verdict = 'drop';
  t.deepEqual(s.exchange({ len: 10 }), []);
  t.is(s.sf.rcvNxt, 1);
});

test('T2: the four cases of the acceptability test (RFC 9293 table 6)', (t) => {
  const receiver = new Receiver({ ...DEFAULT_SUBFLOW_CONFIG, congestion: controllers.reno! }, new SubflowStats());
  receiver.onSyn(99);
  const cases = (expected: Record<string, boolean>) => {
    for (const [seqAndLength, isAcceptable] of Object.entries(expected)) {
      const [seq, length] = seqAndLength.split('+').map(Number);
      t.is(receiver.isAcceptable(seq!, length!), isAcceptable, seqAndLength);
    }
  };
  t.is(receiver.windowBytes, 0);
  cases({ '100+0': true, '99+0': false, '101+0': false, '100+1': false });
  receiver.advertise(50, 0, true);
  cases({ '99+0': false, '100+0': true, '149+0': true, '150+0': false });
  cases({ '99+1': false, '99+2': true, '100+1': true, '149+5': true, '150+5': false, '90+100': false });
});

test('S3: once agreed, every segment carries timestamps: data, ACK, FIN, RST', (t) => {
  const s = steady();
  s.owner.toSend = 10;
  s.inject({ seq: 100, len: 10 });
  const sent = s.out();
  s.sf.sendFin(s.nowUs);
  sent.push(...s.out());
  s.sf.abort(s.nowUs, true);
  sent.push(...s.out());
  t.deepEqual(
    sent.map((x) => x.flags),
    ['P.', '.', 'F.', 'R.'],
  );
  t.true(sent.every((x) => x.ts !== undefined));
  const without = steady({ peer: { ts: false } });
  without.owner.toSend = 10;
  t.is(without.out()[0]!.ts, undefined);
});

test('T10: options that nobody knows are stepped over', (t) => {
  const owner = new StreamOwner();
  owner.optionBytes = 8;
  const s = steady({ owner });
  owner.toSend = 10;
  const [sent] = s.out();
  t.is(sent!.optionBytes, 20, 'kind 253 before and behind timestamps is no obstacle to our own parser');
  t.true(sent!.ts !== undefined);
});

test('T15: what was offered is not taken back', (t) => {
  const receiver = new Receiver({ ...DEFAULT_SUBFLOW_CONFIG, congestion: controllers.reno! }, new SubflowStats());
  receiver.onSyn(0);
  t.is(receiver.advertise(10_000, 0, true), 10_000);
  t.is(receiver.advertise(4_000, 0, true), 10_000);
  receiver.onData(0, 1, 3_001, 1_000);
  t.is(receiver.advertise(1_000, 0, true), 7_000);
});
