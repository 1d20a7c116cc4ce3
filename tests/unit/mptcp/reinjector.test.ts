/** Which bytes go again on another subflow, and what stays where it was (RFC 8684 3.3.2, 3.3.6). */
import test from 'ava';
import { writeTcprst } from '../../../src/core/wire/mptcp-options.js';
import { MptcpScript, type Sent } from '../../support/mptcp-script.js';
import { patternByte } from '../../support/tcp-pair.js';

const MS = 1000;
const S = 1_000_000;

const data = (sent: readonly Sent[], path: number) => sent.filter((x) => x.path === path && x.len > 0);
const rangesOf = (sent: readonly Sent[]) => sent.map((x) => [x.dss!.dsn + x.seq - x.dss!.ssn, x.len]);

/** 1000 bytes that path 0 alone carries, and what happened until they went again on path 1. */
function reinjected(): { s: MptcpScript; again: Sent[] } {
  const s = MptcpScript.joined(2);
  s.c.setLocalBackup(s.nowUs, s.p1.sf.id, true);
  s.write(1000);
  s.c.suspectSubflow(s.nowUs, s.p0.sf.id, 'test');
  return { s, again: data(s.out(), 1) };
}

test('bytes of a suspected subflow go again elsewhere, under a mapping of their own and the same DSNs', (t) => {
  const { s, again } = reinjected();
  t.is(again.length, 1);
  t.like(again[0]!, { seq: 1, len: 1000 });
  t.like(again[0]!.dss!, { dsn: 2, ssn: 1, dll: 1000 });
  t.is(s.p1.sf.bytesReinjected, 1000);
  t.is(s.counter('MPTcpExtMPTCPRetrans'), 1);
});

test('what went again elsewhere, and is DATA_ACKed, is still retransmitted on its own subflow, byte for byte', (t) => {
  const { s } = reinjected();
  s.p1.ack(1002);
  t.is(s.c.sender.sndUna, 1002);
  t.is(s.c.sender.buffer.startDsn, 1002, 'the connection has let go of them');
  const original = data(s.advance(2 * S), 0);
  t.true(original.length > 0);
  for (const x of original) {
    t.like(x.dss!, { dsn: 2, ssn: 2, dll: 1000 });
    t.true(x.payload.every((byte, i) => byte === patternByte(x.seq - 1 + i)));
  }
  s.p0.ack(1002);
  t.deepEqual(data(s.advance(2 * S), 0), [], 'until that subflow acknowledges them too');
});

test('bytes that a subflow acknowledged are kept until DATA_ACK covers them', (t) => {
  const s = MptcpScript.joined(2);
  s.write(1000);
  s.p0.ack(2);
  t.is(s.c.sender.buffer.startDsn, 2);
  t.is(s.c.unackedBytes, 1000);
  s.p0.ack(502);
  t.is(s.c.unackedBytes, 500);
});

test('a range goes to no subflow that has it outstanding already', (t) => {
  const s = MptcpScript.joined(2);
  s.engine.updateLink(s.nowUs, { ...s.engine.link(1)!, isUp: false });
  s.write(1000);
  s.c.sender.reinject(2, 1002, s.p0.sf.id);
  t.deepEqual(data(s.advance(50 * MS), 0), []);
  t.false(s.c.sender.reinjections.isEmpty);
});

test('a subflow that is reset leaves its bytes to the others', (t) => {
  const s = MptcpScript.joined(2);
  s.c.setLocalBackup(s.nowUs, s.p1.sf.id, true);
  s.write(1000);
  const sent = s.p0.exchange({ flags: 'R', options: (out, o) => writeTcprst(out, o, 1, 0) });
  t.deepEqual(rangesOf(data(sent, 1)), [[2, 1000]]);
});

test('what SACK says has arrived does not go again', (t) => {
  const s = MptcpScript.joined(2);
  s.c.setLocalBackup(s.nowUs, s.p1.sf.id, true);
  s.write(1000);
  s.write(1000);
  s.p0.send({ ack: 2, sack: [[1002, 2002]], dss: { ack: 2 } });
  s.c.suspectSubflow(s.nowUs, s.p0.sf.id, 'test');
  t.deepEqual(rangesOf(data(s.out(), 1)), [[2, 1000]]);
});

/** Path 1 takes `slower` times the round trip of path 0 and loses a segment: that, and what path 0 sends upon it. */
function lostOnSlow(scheduler: string, slower: number): { lost: number[]; sent: number[][] } {
  const s = MptcpScript.joined(2, { config: { congestion: 'reno' } });
  s.c.setScheduler(scheduler);
  s.c.setLocalBackup(s.nowUs, s.p0.sf.id, true);
  const rttUs = Math.round(slower * s.p0.sf.tcp.rtt.srttUs);
  for (let i = 0; i < 24; i++) {
    s.write(100);
    s.nowUs += rttUs;
    s.p1.ack(s.c.sender.sndNxt);
  }
  const from = s.c.sender.sndNxt;
  const first = data([...s.write(8000), ...s.advance(0.6 * rttUs)], 1);
  s.nowUs += 0.4 * rttUs;
  const lost = first[0]!;
  s.p1.send({ ack: lost.seq, sack: [[lost.seq + lost.len, lost.seq + 5 * lost.len]], dss: { ack: from } });
  s.c.setLocalBackup(s.nowUs, s.p0.sf.id, false);
  return { lost: [from, lost.len], sent: rangesOf(data(s.advance(0.6 * rttUs), 0)) };
}

test('what is lost on a slow subflow goes on a quicker one at once, too', (t) => {
  const { lost, sent } = lostOnSlow('adaptive', 1.5);
  t.deepEqual(sent[0], lost);
});

test('… and for a transfer where nobody waits but for the whole only where that saves half of the time', (t) => {
  t.deepEqual(lostOnSlow('patient', 1.5).sent, []);
  const { lost, sent } = lostOnSlow('patient', 3);
  t.deepEqual(sent[0], lost);
});

test('bytes of a slow subflow that fill the window go again on one that is twice as quick, once', (t) => {
  const s = MptcpScript.joined(2, { peer: { win: 2872 } });
  s.c.setLocalBackup(s.nowUs, s.p0.sf.id, true);
  for (let i = 0; i < 12; i++) {
    s.write(100);
    s.nowUs += 90 * MS;
    s.p1.ack(s.c.sender.sndNxt);
  }
  const from = s.c.sender.sndNxt;
  s.write(2872);
  s.advance(40 * MS);
  t.is(s.c.sender.sndNxt, s.c.sender.windowEdge);
  s.c.setLocalBackup(s.nowUs, s.p0.sf.id, false);
  t.false(s.c.sender.isWindowLimited);
  s.write(1000);
  const sent = s.out();
  t.is(s.counter('window_unblocked'), 1);
  t.true(s.p0.sf.bytesReinjected >= 1436);
  t.true(sent.every((x) => x.path !== 1));
  s.advance(20 * MS);
  t.is(s.counter('window_unblocked'), 1);
  t.is(s.c.sender.sndUna, from);
});
