/** How connections and their subflows end (RFC 8684 3.3.3). */
import test from 'ava';
import { dsnHi, dsnLo } from '../../../src/core/base/seq.js';
import { NEVER } from '../../../src/core/base/time.js';
import { dssChecksumRange } from '../../../src/core/mptcp/keys.js';
import { writeTcprst } from '../../../src/core/wire/mptcp-options.js';
import { brief, MptcpScript, type ScriptPath, type Sent } from '../../support/mptcp-script.js';

const S = 1_000_000;
const fins = (sent: readonly Sent[]) => sent.filter((x) => x.flags.includes('F')).map((x) => x.path);
const dataFins = (sent: readonly Sent[]) => sent.filter((x) => x.dss?.fin === true);

/** The peer resets a subflow, for no lasting reason. */
function reset(path: ScriptPath): Sent[] {
  return path.exchange({ flags: 'R', options: (out, o) => writeTcprst(out, o, 1, 0) });
}

test('a DATA_FIN with data takes one DSN behind it: DLL 301 for 300 bytes', (t) => {
  const s = MptcpScript.joined(1);
  const sent = s.p0.exchange({ len: 300, dss: { dsn: 2, dll: 301, fin: true, ack: 2 } });
  t.is(sent.at(-1)!.ack, 302, 'nothing at subflow level');
  t.is(sent.at(-1)!.dss!.ack, 303);
  t.is(s.received, 301);
  t.is(s.ends, 1);
});

test('with checksums a DATA_FIN with data counts once its mapping is verified', (t) => {
  for (const isRight of [true, false]) {
    const s = MptcpScript.joined(2, { checksum: true });
    s.p1.send({ len: 300, dss: { dsn: 2, fin: true, ack: 2, ...(isRight ? {} : { checksum: 1 }) } });
    t.is(s.ends, isRight ? 1 : 0);
    t.is(s.c.receiver.finDsn, isRight ? 302 : -1);
  }
});

test('a DATA_FIN alone: SSN 0, DLL 1, its own DSN, the checksum over the pseudo-header only', (t) => {
  for (const checksum of [false, true]) {
    const s = MptcpScript.joined(1, { checksum });
    s.write(100);
    s.p0.ack(102);
    const [fin] = dataFins(s.end());
    t.is(fin!.len, 0);
    t.like(fin!.dss!, { dsn: 102, ssn: 0, dll: 1 });
    const { idsnLocal } = s.c.keys;
    const sum = dssChecksumRange(dsnHi(102, idsnLocal), dsnLo(102, idsnLocal), 0, 1, new Uint8Array(0), 0, 0);
    t.is(fin!.dss!.checksum, checksum ? sum : -1);
  }
});

test('a DATA_FIN alone with a wrong checksum is not taken', (t) => {
  const s = MptcpScript.joined(1, { checksum: true });
  s.p0.send({ dss: { dsn: 2, fin: true, ack: 2, checksum: 0x1234 } });
  t.is(s.ends, 0);
  s.p0.send({ dss: { dsn: 2, fin: true, ack: 2 } });
  t.is(s.ends, 1);
});

test('a DATA_FIN is acknowledged only when everything before it has arrived', (t) => {
  const s = MptcpScript.joined(2);
  const early = s.p0.exchange({ dss: { dsn: 102, fin: true, ack: 2 } });
  t.is(early.at(-1)!.dss!.ack, 2);
  t.is(s.ends, 0);
  const sent = s.p1.exchange({ len: 100, dss: { dsn: 2, ack: 2 } });
  t.is(sent.at(-1)!.dss!.ack, 103);
  t.is(s.ends, 1);
});

test('the last subflow that works is not closed before outstanding data is DATA_ACKed', (t) => {
  for (const who of ['we', 'the peer'] as const) {
    const s = MptcpScript.joined(1);
    s.write(1000);
    if (who === 'we') s.c.closeSubflow(s.nowUs, s.p0.sf.id, 'fin');
    else s.p0.send({ flags: 'F.', dss: { ack: 2 } });
    t.deepEqual(fins(s.out()), [], who);
    t.deepEqual(fins(s.p0.ack(502)), [], 'some is not all');
    t.deepEqual(fins(s.p0.ack(1002)), [0], who);
    t.is(s.c.state, 'established');
  }
});

test('with another subflow to go on, a FIN goes out at once and the bytes go again there', (t) => {
  const s = MptcpScript.joined(2);
  s.c.setLocalBackup(s.nowUs, s.p1.sf.id, true);
  s.write(1000);
  s.c.closeSubflow(s.nowUs, s.p0.sf.id, 'fin');
  const sent = s.out();
  t.deepEqual(fins(sent), [0]);
  t.deepEqual(
    sent.filter((x) => x.len > 0).map((x) => [x.path, x.dss!.dsn, x.len]),
    [[1, 2, 1000]],
  );
});

test('a FIN ends its subflow only: data goes on on the other', (t) => {
  const s = MptcpScript.joined(2);
  t.deepEqual(fins(s.p0.exchange({ flags: 'F.', dss: { ack: 2 } })), [0]);
  t.is(s.c.state, 'established');
  t.is(s.ends, 0);
  t.true(s.write(1000).every((x) => x.path === 1));
  s.p1.exchange({ len: 100, dss: { dsn: 2, ack: 1002 } });
  t.is(s.received, 101);
});

test('both DATA_FINs acknowledged: the connection is closed, and every subflow ends with a FIN', (t) => {
  const s = MptcpScript.joined(3);
  t.deepEqual(fins(s.end()), []);
  const half = s.p0.ack(3);
  t.deepEqual(fins(half), [], 'our DATA_FIN is acknowledged, the peer may still send');
  t.not(s.c.state, 'closed');
  const sent = s.p1.exchange({ dss: { dsn: 2, fin: true, ack: 3 } });
  t.deepEqual(fins(sent).sort(), [0, 1, 2]);
  t.is(s.c.state, 'closed');
  t.is(s.events('connection-closed').length, 1);
});

test("the peer's DATA_FIN alone does not close the connection, nor any subflow", (t) => {
  const s = MptcpScript.joined(2);
  const sent = s.p0.exchange({ dss: { dsn: 2, fin: true, ack: 2 } });
  t.deepEqual(fins(sent), []);
  t.is(s.ends, 1);
  t.is(s.c.state, 'established');
});

test("half-close: after our DATA_FIN we go on receiving, after the peer's we go on sending", (t) => {
  const s = MptcpScript.joined(1);
  s.end();
  s.p0.ack(3);
  const [ack] = s.p0.exchange({ len: 500, dss: { dsn: 2, ack: 3 } });
  t.is(ack!.dss!.ack, 502);
  t.is(s.received, 501);

  const r = MptcpScript.joined(1);
  r.p0.exchange({ dss: { dsn: 2, fin: true, ack: 2 } });
  t.is(r.write(500).filter((x) => x.len > 0).length, 1);
  r.p0.ack(502);
  t.is(r.c.sender.sndUna, 502);
});

test('the DATA_FIN goes again, more and more seldom, until it is acknowledged, on whatever subflow is left', (t) => {
  const s = MptcpScript.joined(2);
  const first = dataFins(s.end());
  t.deepEqual(first.map((x) => x.path).sort(), [0, 1], 'on every subflow at once');
  const startUs = s.nowUs;
  const again = dataFins(s.advance(5 * S)).filter((x) => x.path === 0);
  const atMs = again.map((x) => Math.round((x.atUs - startUs) / 1000));
  t.deepEqual(atMs, [300, 900, 2100, 4500]);
  reset(s.p0);
  t.deepEqual([...new Set(dataFins(s.advance(10 * S)).map((x) => x.path))], [1]);
  s.p1.ack(3);
  t.deepEqual(dataFins(s.advance(60 * S)), []);
});

test('a DATA_FIN that nobody acknowledges for two minutes: the subflow is reset, and another one is asked anew', (t) => {
  const s = MptcpScript.joined(1);
  s.end();
  const before = s.advance(110 * S);
  t.false(before.some(({ flags }) => flags.includes('R')));
  // Options are stripped on the way, but TCP is answered.
  s.p0.ack();
  const sent = s.advance(20 * S);
  t.is(sent.find(({ flags }) => flags.includes('R'))?.tcprst, 6);
  t.deepEqual(dataFins(s.advance(200 * S)), []);
  t.is(s.engine.connections().length, 1, 'kept for a subflow that may yet come');
  s.advance(300 * S);
  t.is(s.engine.connections().length, 0);
});

test('the DATA_FIN waits until subflows have taken all data', (t) => {
  const s = MptcpScript.joined(1, { peer: { win: 1000 } });
  s.write(1500);
  t.deepEqual(dataFins(s.end()), []);
  const sent = s.p0.ack(1002, 1000);
  t.is(dataFins(sent)[0]!.dss!.dsn, 1502);
});

test('a repeated DATA_FIN, as Linux sends it on every subflow, is acknowledged every time', (t) => {
  const s = MptcpScript.joined(2);
  for (const path of [s.p0, s.p1, s.p0]) {
    const sent = path.exchange({ dss: { dsn: 2, fin: true, ack: 2 } });
    t.like(sent.at(-1)!, { path: path.index });
    t.is(sent.at(-1)!.dss!.ack, 3);
  }
  t.is(s.ends, 1);
});

test('at the end a silent subflow with nothing on it gets its FIN too', (t) => {
  const s = MptcpScript.joined(2);
  s.c.suspectSubflow(s.nowUs, s.p1.sf.id, 'test');
  s.end();
  const sent = s.p0.exchange({ dss: { dsn: 2, fin: true, ack: 3 } });
  t.deepEqual(fins(sent).sort(), [0, 1]);
  s.p0.exchange({ flags: 'F.', dss: { ack: 3 } });
  s.advance(200 * S);
  t.is(s.engine.connections().length, 0, 'and it is given up when nobody answers');
});

test('the peer’s end comes by the only path, which was silent till then: it hears our DATA_ACK, no RST', (t) => {
  const s = MptcpScript.joined(1);
  s.end();
  s.p0.ack(3);
  s.c.closeSubflow(s.nowUs, s.p0.sf.id, 'fin');
  t.deepEqual(fins(s.out()), [0]);
  s.advance(3 * S);
  t.true(s.p0.sf.isStalled);
  const sent = s.p0.exchange({ dss: { dsn: 2, fin: true, ack: 3 } });
  t.deepEqual(
    sent.filter((x) => x.flags.includes('R')),
    [],
  );
  t.is(sent.at(-1)!.dss!.ack, 3);
  t.is(s.c.state, 'closed');
});

test('a connection that is over does not wait for its paths to be ready', (t) => {
  const s = MptcpScript.joined(2);
  s.write(1_000_000);
  t.true(s.c.dispatcher.nextDeadline() < NEVER, 'it was waiting');
  s.c.abort(s.nowUs);
  t.is(s.c.dispatcher.nextDeadline(), NEVER);
});

test('at the end a silent subflow whose bytes went elsewhere is reset with reason 4', (t) => {
  const s = MptcpScript.joined(2);
  s.c.setLocalBackup(s.nowUs, s.p0.sf.id, true);
  t.deepEqual(brief(s.write(1000)).length, 1);
  s.c.suspectSubflow(s.nowUs, s.p1.sf.id, 'test');
  s.out();
  s.p0.ack(1002);
  s.end();
  const sent = s.p0.exchange({ dss: { dsn: 2, fin: true, ack: 1003 } });
  t.deepEqual(
    sent.filter((x) => x.flags.includes('R')).map((x) => [x.path, x.tcprst]),
    [[1, 4]],
  );
  t.deepEqual(fins(sent), [0]);
});

test('at the end a subflow without its link is forgotten', (t) => {
  for (const isLate of [false, true]) {
    const s = MptcpScript.joined(2);
    const down = () => s.engine.updateLink(s.nowUs, { ...s.engine.link(1)!, isUp: false });
    if (!isLate) down();
    s.end();
    s.p0.exchange({ dss: { dsn: 2, fin: true, ack: 3 } });
    if (isLate) down();
    s.p0.exchange({ flags: 'F.', dss: { ack: 3 } });
    s.advance(61 * S);
    t.is(s.engine.connections().length, 0);
  }
});

test('a subflow that falls silent behind its FIN is given up by TCP', (t) => {
  const s = MptcpScript.joined(2);
  s.end();
  s.p0.exchange({ dss: { dsn: 2, fin: true, ack: 3 } });
  s.advance(121 * S);
  t.is(s.engine.connections().length, 0);
});

test('without any subflow the connection lives on for 300 s, and a join within them revives it', (t) => {
  const s = MptcpScript.joined(2);
  s.write(1000);
  reset(s.p0);
  reset(s.p1);
  t.is(s.c.subflows.length, 0);
  s.advance(299 * S);
  t.is(s.c.state, 'established');
  const sent = s.join(2);
  t.deepEqual(
    sent.filter((x) => x.len > 0).map((x) => [x.path, x.dss!.dsn, x.len]),
    [[2, 2, 1000]],
    'what the lost subflows carried goes again there',
  );
  s.advance(2 * S);
  t.is(s.c.state, 'established');
});

test('without any subflow for 300 s the connection is over', (t) => {
  const s = MptcpScript.joined(1);
  reset(s.p0);
  s.advance(301 * S);
  t.is(s.c.state, 'closed');
  t.is(s.events('connection-closed')[0]!.why, 'no path for too long');
  t.is(s.engine.connections().length, 0);
});

test('TIME-WAIT: for 60 s after the end the connection answers a late DATA_FIN, then it is forgotten', (t) => {
  const s = MptcpScript.joined(1);
  s.end();
  t.deepEqual(fins(s.p0.exchange({ dss: { dsn: 2, fin: true, ack: 3 } })), [0]);
  s.p0.exchange({ flags: 'F.', dss: { ack: 3 } });
  t.is(s.p0.sf.tcp.state, 'time-wait');
  s.advance(59 * S);
  const [answer] = s.p0.exchange({ dss: { dsn: 2, fin: true, ack: 3 } });
  t.like(answer!, { flags: '.' });
  t.is(answer!.dss!.ack, 3);
  s.advance(2 * S);
  t.is(s.engine.connections().length, 0);
});

test('the last subflow stays for TIME-WAIT although the peer’s FIN came first: late DATA_ACKs and DATA_FINs find it', (t) => {
  const s = MptcpScript.joined(1);
  t.deepEqual(fins(s.p0.exchange({ flags: 'F.', dss: { ack: 2 } })), [0]);
  t.is(dataFins(s.end()).length, 1, 'it is all that can carry our DATA_FIN');
  s.p0.ack(2);
  t.is(s.p0.sf.tcp.state, 'time-wait', 'our FIN has arrived, our DATA_FIN perhaps not');
  t.is(dataFins(s.advance(S)).length, 2, 'it is repeated');
  s.p0.exchange({ dss: { dsn: 2, fin: true, ack: 3 } });
  t.is(s.events('connection-closed')[0]!.why, 'done');
  const [answer] = s.p0.exchange({ dss: { dsn: 2, fin: true, ack: 3 } });
  t.is(answer!.dss!.ack, 3, 'our DATA_ACK was lost');
  s.advance(61 * S);
  t.is(s.engine.connections().length, 0);
});

test('a subflow whose FIN is the second does not stay where another tells the rest, or it said all itself', (t) => {
  const two = MptcpScript.joined(2);
  two.p0.exchange({ flags: 'F.', dss: { ack: 2 } });
  two.p0.ack(2);
  t.deepEqual(
    two.c.subflows.map((sf) => sf.id),
    [two.p1.sf.id],
  );

  const late = MptcpScript.joined(1);
  late.write(1000);
  late.p0.send({ flags: 'F.', dss: { ack: 2 } });
  late.end();
  t.deepEqual(fins(late.p0.exchange({ dss: { dsn: 2, fin: true, ack: 1003 } })), [0], 'with the last DATA_ACK');
  late.p0.ack(1003);
  t.is(late.engine.connections().length, 0);
});

test('over, and the only link is gone before our last DATA_ACK has left: it waits for the link, a minute at most', (t) => {
  for (const comesBack of [true, false]) {
    const s = MptcpScript.joined(1);
    const link = (isUp: boolean) => s.engine.updateLink(s.nowUs, { ...s.engine.link(0)!, isUp });
    s.end();
    s.p0.ack(3);
    link(false);
    t.deepEqual(s.p0.exchange({ dss: { dsn: 2, fin: true, ack: 3 } }), []);
    t.is(s.events('connection-closed')[0]!.why, 'done');
    t.deepEqual(s.advance(59 * S), []);
    t.is(s.engine.connections().length, 1);
    if (comesBack) {
      link(true);
      const fin = s.out().find(({ flags }) => flags.includes('F'));
      t.is(fin!.dss!.ack, 3);
    }
    s.advance(2 * S);
    t.is(s.engine.connections().length, comesBack ? 1 : 0);
  }
});

test('over, and the only link goes before the peer has our FIN: it goes again when the link is back', (t) => {
  const s = MptcpScript.joined(1);
  const link = (isUp: boolean) => s.engine.updateLink(s.nowUs, { ...s.engine.link(0)!, isUp });
  s.end();
  t.deepEqual(fins(s.p0.exchange({ dss: { dsn: 2, fin: true, ack: 3 } })), [0]);
  link(false);
  t.deepEqual(s.advance(10 * S), []);
  link(true);
  t.true(fins(s.out()).length > 0);
});
