/** Off-path injection into a subflow (RFC 5961; RFC 8684 5: no worse than TCP): RST, SYN, ACK and data, in and out of window. */
import test from 'ava';
import { writeTcprst } from '../../../src/core/wire/mptcp-options.js';
import { MptcpScript } from '../../support/mptcp-script.js';

const WINDOW = 65_535;

const isChallenge = (s: { flags: string; len: number }) => s.flags === '.' && s.len === 0;

test('blind RST: in the window it is challenged, outside it is dropped, only at RCV.NXT does it count', (t) => {
  const script = MptcpScript.joined(2);
  const { c, p1 } = script;
  const { sf } = p1;
  t.true(p1.exchange({ flags: 'R', seq: sf.tcp.rcvNxt + 1 }).every(isChallenge));
  t.true(p1.exchange({ flags: 'R', seq: sf.tcp.rcvNxt + WINDOW - 1 }).every(isChallenge));
  t.is(sf.tcp.stats.challengeAcks, 2);
  t.deepEqual(p1.exchange({ flags: 'R', seq: sf.tcp.rcvNxt - 1 }), []);
  t.deepEqual(p1.exchange({ flags: 'R', seq: sf.tcp.rcvNxt + 2 ** 30 }), []);
  t.is(sf.tcp.state, 'established');
  p1.exchange({ flags: 'R', seq: sf.tcp.rcvNxt });
  // Even then it is one subflow's end and not the connection's (RFC 8684 4).
  t.deepEqual(
    c.subflows.map((s) => s.flow.linkId),
    [0],
  );
  t.is(c.state, 'established');
});

test('blind SYN: challenged in the window and outside of it, never obeyed', (t) => {
  const script = MptcpScript.joined(1);
  const { p0 } = script;
  const { sf } = p0;
  for (const seq of [sf.tcp.rcvNxt, sf.tcp.rcvNxt + 1000, sf.tcp.rcvNxt + 2 ** 30]) {
    const sent = p0.exchange({ flags: 'S', seq });
    t.true(sent.length === 1 && sent.every(isChallenge));
  }
  t.is(sf.tcp.state, 'established');
});

test('blind data: outside the window it is dropped; with an ACK of what was never sent it is challenged', (t) => {
  const script = MptcpScript.joined(1);
  const { c, p0 } = script;
  const { sf } = p0;
  const received = c.receiver.bytesReceived;
  const at = { dss: { ack: 2, dsn: 3 } };
  t.true(p0.exchange({ seq: sf.tcp.rcvNxt + 2 ** 30, len: 100, ...at }).every(isChallenge));
  t.true(p0.exchange({ len: 100, ack: sf.tcp.sndNxt + 1, ...at }).every(isChallenge));
  t.true(p0.exchange({ len: 100, ack: sf.tcp.sndNxt - 2 ** 20, ...at }).every(isChallenge));
  t.is(c.receiver.bytesReceived, received);
  t.is(c.receiver.outOfOrderBytes, 0);
});

test('blind data in the window, but with data sequence numbers outside the connection’s: dropped', (t) => {
  const script = MptcpScript.joined(1);
  const { c, p0 } = script;
  const { receiver } = c;
  const rcvNxt = receiver.rcvNxt;
  p0.exchange({ len: 100, dss: { ack: 2, dsn: receiver.rcvNxt + 2 ** 30 } });
  t.is(receiver.rcvNxt, rcvNxt);
  t.is(receiver.outOfOrderBytes, 0);
});

test('challenge ACKs are few: 1000 forged segments are not 1000 answers', (t) => {
  const script = MptcpScript.joined(1);
  const { p0 } = script;
  let sent = 0;
  for (let i = 0; i < 1000; i++)
    sent += p0.exchange({ flags: i % 2 === 0 ? 'S' : 'R', seq: p0.sf.tcp.rcvNxt + 5 }).length;
  t.is(sent, 10);
  t.is(p0.sf.tcp.stats.challengeAcksSuppressed, 990);
});

test('MP_TCPRST on a segment that is no RST means nothing', (t) => {
  const script = MptcpScript.joined(1);
  script.p0.exchange({ options: (out, o) => writeTcprst(out, o, 0, 3) });
  t.is(script.p0.sf.tcp.state, 'established');
  t.is(script.p0.sf.resetReason, -1);
});
