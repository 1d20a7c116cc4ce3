/** The data-level retransmission timer (RFC 8684 3.3.6): what subflows have delivered and the peer does not have. */
import test from 'ava';
import { MptcpScript, type Sent } from '../../support/mptcp-script.js';

const S = 1_000_000;

const data = (sent: readonly Sent[]) => sent.filter((x) => x.len > 0);
const bytesOf = (sent: readonly Sent[]) => data(sent).reduce((sum, x) => sum + x.len, 0);

/** `bytes` that a proxy on path 0 acknowledges at once and then loses. */
function proxied(bytes: number, options: Parameters<typeof MptcpScript.joined>[1] = {}): MptcpScript {
  const s = MptcpScript.joined(2, options);
  s.c.setLocalBackup(s.nowUs, s.p1.sf.id, true);
  s.write(bytes);
  for (let i = 0; i < 200 && s.c.unsentBytes > 0; i++) {
    s.p0.ack(2);
    s.advance(2000);
  }
  s.p0.ack(2);
  return s;
}

test('acknowledged by its subflow and not by DATA_ACK: after two round trips it goes again, on any subflow', (t) => {
  const s = proxied(1000);
  t.is(s.p0.sf.tcp.sndUna, 1002);
  t.is(bytesOf(s.advance(0.05 * S)), 0, 'never within 60 ms');
  const sent = data(s.advance(0.05 * S));
  t.deepEqual(
    sent.slice(0, 1).map((x) => [x.dss!.dsn, x.len]),
    [[2, 1000]],
  );
  t.is(s.counter('data_rto'), 1);
  s.p0.ack(1002);
  s.p1.ack(1002);
  t.is(s.c.unackedBytes, 0);
  t.is(bytesOf(s.advance(5 * S)), 0);
});

test('it goes on until the peer has it', (t) => {
  const s = proxied(1000);
  let tries = 0;
  for (let i = 0; i < 5; i++) {
    tries += data(s.advance(1.1 * S)).length;
    s.p0.ack(2);
    s.p1.ack(2);
  }
  t.true(tries >= 4, `${tries}`);
});

test('while a subflow still works on the first bytes, the timer leaves them to it', (t) => {
  const s = MptcpScript.joined(1);
  s.write(1000);
  s.advance(1.05 * S);
  t.is(s.counter('data_rto'), 0);
  t.is(s.p0.sf.bytesReinjected, 0);
});

test('every DATA_ACK that advances starts the timer over', (t) => {
  const s = proxied(3000);
  for (let i = 1; i <= 3; i++) {
    s.advance(0.05 * S);
    s.p0.ack(2 + 900 * i);
  }
  t.is(s.counter('data_rto'), 0);
  s.advance(1.1 * S);
  t.true(s.counter('data_rto') > 0);
});

test('without success it is given twice as long each time, up to a second', (t) => {
  const s = proxied(1000);
  const times: number[] = [];
  for (let ms = 0; ms < 5000; ms += 10) {
    const before = s.counter('data_rto');
    s.advance(0.01 * S);
    s.p0.ack(2);
    s.p1.ack(2);
    if (s.counter('data_rto') > before) times.push(ms);
  }
  const waits = times.map((ms, i) => ms - (times[i - 1] ?? 0));
  t.true(waits.length >= 6 && waits.length <= 9, waits.join());
  for (let i = 1; i < waits.length; i++)
    t.true(waits[i]! <= 1050 && waits[i]! >= Math.min(1000, 1.7 * waits[i - 1]!), waits.join());
});

test('a proxy behind which DATA_ACKs take their time is known after the first', (t) => {
  const s = proxied(1000);
  s.advance(0.09 * S);
  const first = s.counter('data_rto');
  s.p0.ack(1002);
  for (let i = 1; i <= 5; i++) {
    s.write(1000);
    s.p0.ack(2 + 1000 * i);
    s.advance(0.09 * S);
    s.p0.ack(2 + 1000 * (i + 1));
  }
  t.true(first <= 1);
  t.is(s.counter('data_rto'), first);
});

test('on the only path it is given a second: it would go the same way again', (t) => {
  const s = MptcpScript.joined(1);
  s.write(1000);
  s.p0.ack(2);
  t.is(bytesOf(s.advance(0.9 * S)), 0);
  t.true(bytesOf(s.advance(0.2 * S)) > 0);
});

test('it goes again in steps that DATA_ACKs clock: 64 KB first, twice as much with each that helps', (t) => {
  const s = proxied(400_000, { peer: { wscale: 8, win: 4000 } });
  t.is(s.c.unackedBytes, 400_000);
  const first = 65_536;
  const reinjected = () => s.c.sender.bytesReinjected + s.c.sender.reinjections.pendingBytes;
  for (let i = 0; i < 10 && reinjected() === 0; i++) s.advance(0.01 * S);
  t.is(reinjected(), first);
  s.p0.ack(2 + first);
  t.is(reinjected(), 3 * first);
});

test('nothing is outstanding: no timer', (t) => {
  const s = MptcpScript.joined(1);
  s.write(1000);
  s.p0.ack(1002);
  t.is(s.advance(10 * S).length, 0);
  t.is(s.c.dataRto.deadlineUs, Number.POSITIVE_INFINITY);
  t.is(bytesOf(s.out()), 0);
});
