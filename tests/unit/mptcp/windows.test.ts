/** One window for all subflows, seen from both ends (RFC 8684 3.3.4, 3.3.5). */
import test from 'ava';
import { DEFAULT_ENGINE_CONFIG } from '../../../src/core/engine/config.js';
import { Prng } from '../../../src/sim/prng.js';
import { MptcpScript, type Sent } from '../../support/mptcp-script.js';

const S = 1_000_000;

for (const windowScale of [0, 8]) {
  test(`DATA_ACK + window never moves left, whatever arrives where and however the reader dawdles, scale ${windowScale}`, (t) => {
    const luck = new Prng(windowScale + 1);
    const s = MptcpScript.joined(2, { config: { receiveBufferBytes: 60_000, windowScale } });
    s.readLimit = 0;
    let edge = 0;
    let next = 2;
    let acks = 0;
    for (let i = 0; i < 200; i++) {
      const path = s.paths[luck.below(2)]!;
      const len = 1 + luck.below(1400);
      const room = s.c.receiver.rcvNxt + s.c.receiver.windowBytes() - next;
      const sent: Sent[] = [];
      if (luck.below(3) === 0) {
        s.readLimit = luck.below(4000);
        s.c.resume(s.nowUs);
        sent.push(...s.out());
      }
      if (len <= room) {
        // Now and then the data in front comes later, by the other path.
        const late = luck.below(4) === 0 && 2 * len <= room;
        if (late) sent.push(...path.exchange({ len, dss: { dsn: next + len, ack: 2 } }));
        const other = late ? s.paths[1 - path.index]! : path;
        sent.push(...other.exchange({ len, dss: { dsn: next, ack: 2 } }));
        next += late ? 2 * len : len;
      }
      sent.push(...s.advance(50_000));
      for (const x of sent) {
        if (x.dss === null) continue;
        acks++;
        const said = x.dss.ack + x.win;
        // A scaled field cannot say every number (RFC 7323 2.4): less than one unit may be missing.
        t.true(said > edge - 2 ** windowScale, `${said} after ${edge}`);
        edge = Math.max(edge, said);
      }
    }
    t.true(acks > 100, `${acks}`);
    t.is(s.mismatches, 0);
  });
}

test('the window counts from the DATA_ACK and is the same on every subflow', (t) => {
  const s = MptcpScript.joined(2, { config: { receiveBufferBytes: 60_000, windowScale: 0 } });
  const edge = (sent: Sent[]) => sent.at(-1)!.dss!.ack + sent.at(-1)!.win;
  const before = edge(s.p0.exchange({ len: 100, dss: { dsn: 2, ack: 2 } }));
  // Bytes ahead of a hole are acknowledged by their subflow, and the window is where it was.
  const ahead = s.p1.exchange({ len: 1000, dss: { dsn: 202, ack: 2 } });
  t.like(ahead.at(-1)!, { path: 1, ack: 1001 });
  t.is(ahead.at(-1)!.dss!.ack, 102);
  t.is(edge(ahead), before);
  t.true(edge(s.p0.exchange({ len: 100, dss: { dsn: 102, ack: 2 } })) >= before);
});

test('what is acceptable is decided by the DSN and the connection-level window, not by the subflow', (t) => {
  const s = MptcpScript.joined(2, { config: { receiveBufferBytes: 60_000 } });
  // In order on its subflow, far outside at connection level.
  s.p1.send({ len: 1000, dss: { dsn: 130_000, ack: 2 } });
  t.is(s.c.receiver.outOfOrderBytes, 0);
  // Ahead of a hole on its subflow, in order at connection level.
  s.p1.send({ seq: s.p1.nxt + 5000, len: 1000, dss: { dsn: 2, ack: 2 } });
  t.is(s.received, 1001);
});

test('data that subflow and connection order differently is no error: SSN may run ahead of DSN after a reinjection', (t) => {
  const s = MptcpScript.joined(2);
  // The first 1000 bytes of path 1 are lost there and come again on path 0 first.
  s.p0.send({ len: 1000, dss: { dsn: 2, ack: 2 } });
  const seq = s.p1.nxt + 1000;
  s.p1.send({ seq, len: 1000, dss: { dsn: 1002, ssn: seq, ack: 2 } });
  t.is(s.received, 2001, 'SSN - SUBFLOW_ACK is 1000, DSN - DATA_ACK is 0');
});

test('a window edge that does not advance is an old one, overtaken on its way', (t) => {
  const s = MptcpScript.joined(2);
  s.p0.ack(2, 30_000);
  s.p0.ack(2, 60_000);
  s.p1.ack(2, 20_000);
  t.is(s.c.sender.windowEdge, 2 + Math.max(60_000, 65_535));
  const r = MptcpScript.joined(2, { peer: { win: 10_000 } });
  r.p0.ack(2, 30_000);
  r.p1.ack(2, 20_000);
  r.p0.ack(1, 25_000);
  t.is(r.c.sender.windowEdge, 30_002);
});

test('subflows that say different windows: the largest counts for the connection, its own for each subflow', (t) => {
  const s = MptcpScript.joined(2);
  // A middlebox clamps path 1.
  s.win = 3000;
  s.p1.ack(2);
  s.win = 65_535;
  s.p0.ack(2);
  const sent = s.write(40_000);
  let dataAck = 2;
  for (let i = 0; i < 40 && s.c.sender.sndUna < 40_002; i++) {
    dataAck = s.c.sender.sndNxt;
    s.p1.send({ dss: { ack: dataAck }, win: 3000 });
    sent.push(...s.p0.ack(dataAck, 60_000));
    t.true(s.p1.rcvd - s.p1.sf.tcp.sndUna <= 3000);
    sent.push(...s.advance(30_000));
  }
  t.is(s.c.sender.sndUna, 40_002);
  const onClamped = sent.filter((x) => x.path === 1 && x.len > 0);
  t.true(onClamped.length > 0, 'it is used');
  let acked = 1;
  for (const x of onClamped) {
    t.true(x.seq + x.len <= acked + 3000 || x.seq + x.len <= s.p1.rcvd);
    acked = Math.max(acked, x.seq);
  }
});

test("a subflow's own window is never exceeded, though the connection's has room", (t) => {
  const s = MptcpScript.joined(2);
  s.c.setLocalBackup(s.nowUs, s.p0.sf.id, true);
  s.p1.ack(2, 2000);
  s.p0.ack(2, 60_000);
  const sent = s.write(20_000).filter((x) => x.path === 1);
  t.true(sent.length > 0);
  t.true(sent.every((x) => x.seq + x.len <= 1 + 2000));
});

test("the send buffer takes a whole window of the peer's, and more", (t) => {
  const s = MptcpScript.connected({ side: 'passive', peer: { wscale: 8, win: 20_000 } });
  s.prove();
  s.write(6_000_000);
  const { sender } = s.c;
  t.is(sender.sendableBytes + sender.unackedBytes, 20_000 * 256);
  t.is(sender.unsentBytes + sender.unackedBytes, 6_000_000);
});

test("the peer's window is shut: probes ask on a subflow, and its opening lets data go", (t) => {
  const s = MptcpScript.joined(2);
  s.write(1);
  // What was offered is used up: the window shuts.
  s.win = 0;
  s.c.sender.windowEdge = 3;
  s.p0.ack(3);
  s.p1.ack(3);
  t.deepEqual(s.write(1000), []);
  const probes = s.advance(5 * S);
  t.true(probes.length >= 2 && probes.length < 20, `${probes.length} probes`);
  t.true(probes.every((x) => x.len === 0));
  s.win = 5000;
  const sent = s.p0.ack(3);
  t.deepEqual(
    sent.filter((x) => x.len > 0).map((x) => [x.dss!.dsn, x.len]),
    [[3, 1000]],
  );
});

test('our window opens again: every subflow says so at once, with a DATA_ACK', (t) => {
  const s = MptcpScript.joined(2, { config: { receiveBufferBytes: 60_000, windowScale: 0 } });
  s.readLimit = 0;
  let last: Sent[] = [];
  for (let dsn = 2; dsn < 60_002; dsn += 10_000) last = s.p0.exchange({ len: 10_000, dss: { dsn, ack: 2 } });
  t.is(last.at(-1)!.win, 0);
  s.readLimit = 1000;
  s.c.resume(s.nowUs);
  t.deepEqual(s.out(), [], 'a little is not worth saying');
  s.readLimit = 59_000;
  s.c.resume(s.nowUs);
  const sent = s.out();
  t.deepEqual(sent.map((x) => [x.path, x.dss!.ack, x.win]).sort(), [
    [0, 60_002, 60_000],
    [1, 60_002, 60_000],
  ]);
});

test('the default receive buffer holds 300 ms of 200 Mbit/s, and the window field can say so', (t) => {
  const { receiveBufferBytes, windowScale } = DEFAULT_ENGINE_CONFIG;
  t.true(receiveBufferBytes >= (0.3 * 200e6) / 8);
  t.true(65_535 * 2 ** windowScale >= receiveBufferBytes);
});
