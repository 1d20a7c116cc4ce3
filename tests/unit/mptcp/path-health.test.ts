/** Which subflows work (DESIGN 3.4; RFC 8684 3.3.6): silence, timeouts, links and suspicions, and the way back. */
import test from 'ava';
import { TUNNEL_KEEPALIVE } from '../../../src/core/engine/config.js';
import { suspicionAtUs } from '../../../src/core/mptcp/stall.js';
import type { MptcpSubflow } from '../../../src/core/mptcp/subflow.js';
import { MptcpScript } from '../../support/mptcp-script.js';

const MS = 1000;
const S = 1_000_000;
const PROBE_INTERVAL_US = 250 * MS;
const SLOW_PROBE_INTERVAL_US = 15 * S;

test('with one silent path and nothing to turn to, the engine sleeps until the next retransmission', (t) => {
  const s = MptcpScript.connected();
  s.prove();
  s.write(1000);
  s.advance(10 * S);
  t.true(s.counter('deadline_in_the_past') <= 1, 'the first probe may be due already when probing begins');
  t.is(s.counter('MPTcpExtSubflowStale'), 1, 'hopeless after two timeouts even so');
});

test('silence for longer than the path ever needed: it is stalled, its bytes go again on the other', (t) => {
  const s = MptcpScript.joined(2);
  s.c.setLocalBackup(s.nowUs, s.p1.sf.id, true);
  t.true(s.write(1000).every((x) => x.path === 0));
  const sent = s.advance(500 * MS);
  t.true(s.p0.sf.isStalled);
  t.is(s.p0.sf.stallReason, 'no acknowledgment');
  const again = sent.find((x) => x.path === 1 && x.len > 0)!;
  t.is(again.dss!.dsn, 2);
  t.is(again.len, 1000);
  t.true(again.atUs - (s.nowUs - 500 * MS) < 200 * MS, 'well before a retransmission timeout of seconds');
  t.is(s.counter('deadline_in_the_past'), 0);
});

test('a path is not suspected while another is not there to take over', (t) => {
  const s = MptcpScript.joined(2);
  s.engine.updateLink(s.nowUs, { ...s.engine.link(1)!, isUp: false });
  s.write(1000);
  s.advance(150 * MS);
  t.false(s.p0.sf.isStalled);
});

test('any byte acknowledged takes a stalled path back, and what waited because of it is forgotten', (t) => {
  const s = MptcpScript.joined(2);
  s.c.suspectSubflow(s.nowUs, s.p0.sf.id, 'the peer says so');
  t.true(s.p0.sf.isStalled);
  s.c.suspectSubflow(s.nowUs, s.p0.sf.id, 'again');
  t.is(s.p0.sf.stallReason, 'the peer says so');
  s.advance(PROBE_INTERVAL_US);
  s.p0.send({ dss: { ack: 2 } });
  t.false(s.p0.sf.isStalled);
  t.is(s.events('subflow-recovered').length, 1);
});

test('a stalled path is probed every 250 ms, after 30 s every 15 s, and carries no new data', (t) => {
  const s = MptcpScript.joined(2);
  s.c.suspectSubflow(s.nowUs, s.p0.sf.id, 'test');
  t.true(
    s
      .write(5000)
      .filter((x) => x.len > 0)
      .every((x) => x.path === 1),
  );
  s.p1.ack(5002);
  const quick = s.advance(29 * S).filter((x) => x.path === 0);
  t.true(Math.abs(quick.length - 29 * (S / PROBE_INTERVAL_US)) <= 4, `${quick.length} probes`);
  s.advance(16 * S);
  const slow = s.advance(60 * S).filter((x) => x.path === 0);
  t.is(slow.length, (60 * S) / SLOW_PROBE_INTERVAL_US);
});

test('a link that goes down takes its subflow out at once; back up, it is asked at once', (t) => {
  const s = MptcpScript.joined(2);
  s.c.setLocalBackup(s.nowUs, s.p1.sf.id, true);
  s.write(1000);
  const link = s.engine.link(0)!;
  s.engine.updateLink(s.nowUs, { ...link, isUp: false });
  const sent = s.out();
  t.deepEqual(
    sent.filter((x) => x.len > 0).map((x) => [x.path, x.dss!.dsn, x.len]),
    [[1, 2, 1000]],
  );
  t.true(s.p0.sf.isLinkDown);
  t.is(s.advance(5 * S).filter((x) => x.path === 0).length, 0, 'nothing leaves by a link that is down');
  s.engine.updateLink(s.nowUs, { ...link, isUp: true });
  t.is(s.out().filter((x) => x.path === 0).length, 1);
});

test('an address that leaves its link takes the subflow with it', (t) => {
  const s = MptcpScript.joined(2);
  s.engine.updateLink(s.nowUs, { ...s.engine.link(1)!, addresses: [] });
  t.is(s.p1.sf.stallReason, 'address gone');
  t.false(s.p1.sf.isUsable);
  t.true(s.p0.sf.isUsable);
});

test('a path that stays dead for 300 s beside one that works is reset with reason 5; until then its bytes stay with it', (t) => {
  const s = MptcpScript.joined(2);
  s.c.setLocalBackup(s.nowUs, s.p1.sf.id, true);
  s.write(1000);
  s.c.suspectSubflow(s.nowUs, s.p0.sf.id, 'test');
  s.out();
  s.p1.ack(1002);
  const before = s.advance(299 * S);
  t.true(
    before.some((x) => x.path === 0 && x.len > 0 && x.atUs > s.nowUs - 20 * S),
    'still retransmitted there',
  );
  t.deepEqual(
    s.advance(2 * S).map((x) => [x.path, x.flags, x.tcprst]),
    [[0, 'R.', 5]],
  );
  t.is(s.c.subflows.length, 1);
  t.deepEqual(s.advance(100 * S), []);
});

test('the last subflow is not given up, and none that waits for its link', (t) => {
  const s = MptcpScript.joined(2);
  s.engine.updateLink(s.nowUs, { ...s.engine.link(1)!, isUp: false });
  s.c.suspectSubflow(s.nowUs, s.p0.sf.id, 'test');
  s.advance(1000 * S);
  t.is(s.c.subflows.length, 2);
});

test('a silent subflow that the path manager resets says that it performed badly, another that it is not wanted', (t) => {
  for (const isSilent of [true, false]) {
    const s = MptcpScript.joined(2);
    if (isSilent) s.c.suspectSubflow(s.nowUs, s.p1.sf.id, 'test');
    s.c.closeSubflow(s.nowUs, s.p1.sf.id, 'reset');
    t.deepEqual(
      s.out().map((x) => [x.path, x.flags, x.tcprst]),
      [[1, 'R.', isSilent ? 5 : 3]],
    );
  }
});

test('a path that times out is stalled: at once with an alternative, at the second timeout without', (t) => {
  const s = MptcpScript.joined(1);
  s.write(1000);
  const seen: boolean[] = [];
  for (let i = 0; i < 40 && !s.p0.sf.isStalled; i++) {
    s.advance(50 * MS);
    seen.push(s.p0.sf.tcp.rtoCount >= 1 && !s.p0.sf.isStalled);
  }
  t.true(seen.includes(true), 'not at the first');
  t.true(s.p0.sf.isStalled);
  t.is(s.p0.sf.stallReason, 'retransmission timeout');
});

/** Path 0 suspected and silent for so long that it is probed seldom. */
function longSilent(): MptcpScript {
  const s = MptcpScript.joined(2);
  s.c.suspectSubflow(s.nowUs, s.p0.sf.id, 'test');
  s.advance(50 * S);
  return s;
}

const probesOfPath0 = (s: MptcpScript, us: number) => s.advance(us).filter((x) => x.path === 0).length;

test('after a long silence any change of its link brings the quick probes back, the first at once', (t) => {
  const s = longSilent();
  t.true(probesOfPath0(s, 10 * S) <= 1, 'seldom by now');
  s.engine.updateLink(s.nowUs, { ...s.engine.link(0)! });
  t.is(s.out().filter((x) => x.path === 0).length, 1, 'at once');
  t.true(probesOfPath0(s, 10 * S) >= 39);
  s.advance(40 * S);
  t.true(probesOfPath0(s, 10 * S) <= 1, 'and seldom again after 30 s');
});

test('after a long silence a packet of anybody on its link brings the quick probes back; one of another link does not', (t) => {
  const s = longSilent();
  s.p1.send({});
  t.true(probesOfPath0(s, 10 * S) <= 1);
  s.strayOnLink(0);
  t.true(probesOfPath0(s, 10 * S) >= 39);
});

test('a link that was away for longer than a silent one is given up has its full time to answer when it is back', (t) => {
  const s = MptcpScript.joined(2);
  const link = s.engine.link(0)!;
  s.engine.updateLink(s.nowUs, { ...link, isUp: false });
  s.advance(1000 * S);
  s.engine.updateLink(s.nowUs, { ...link, isUp: true });
  t.true(probesOfPath0(s, 10 * S) >= 39, 'probed quickly');
  s.advance(280 * S);
  t.is(s.c.subflows.length, 2);
  s.p0.send({ dss: { ack: 2 } });
  t.false(s.p0.sf.isStalled);
});

test('silence is too long after max(2 SRTT, 60 ms); a lone segment may wait for a delayed ACK as well', (t) => {
  for (const [rttMs, bytes, fromMs, toMs] of [
    [20, 10_000, 60, 75],
    [20, 1000, 100, 115],
  ] as const) {
    const s = MptcpScript.joined(2);
    s.c.setLocalBackup(s.nowUs, s.p1.sf.id, true);
    // With round trips of 20 ms 2 SRTT is less than the floor.
    for (let i = 0; i < 40; i++) {
      s.write(1000);
      s.advance(rttMs * MS);
      s.p0.ack(s.c.sender.sndNxt);
    }
    t.true(s.p0.sf.tcp.rtt.srttUs < (rttMs + 10) * MS);
    t.is(s.c.unackedBytes, 0);
    s.write(bytes);
    s.advance((fromMs - 1) * MS);
    t.false(s.p0.sf.isStalled, `${bytes} bytes, ${rttMs} ms, before ${fromMs} ms`);
    s.advance((toMs - fromMs + 1) * MS);
    t.true(s.p0.sf.isStalled, `${bytes} bytes, ${rttMs} ms, by ${toMs} ms`);
    t.is(s.p0.sf.tcp.rtoCount, 0, 'no timeout was waited for');
  }
});

test('silence that is too long follows the path: two round trips, or one and what they vary by, 100 ms of that at most', (t) => {
  const suspectedAfterMs = (srttMs: number, rttVarMs: number) => {
    const rtt = { srttUs: srttMs * MS, rttVarUs: rttVarMs * MS };
    const tcp = { rtt, oldestUnackedSentUs: 5 * S, lastProgressUs: 4 * S, sndUna: 0, sndNxt: 9000, mssBytes: 1400 };
    return (suspicionAtUs({ isStalled: false, isConfirmed: true, tcp } as unknown as MptcpSubflow) - 5 * S) / MS;
  };
  t.is(suspectedAfterMs(10, 1), 60);
  t.is(suspectedAfterMs(100, 1), 200);
  t.is(suspectedAfterMs(40, 20), 120);
  t.is(suspectedAfterMs(40, 50), 140);
});

test('a stalled path is asked at once when it is the peer that says so, and is back within a round trip if it works', (t) => {
  const s = MptcpScript.joined(2);
  s.out();
  s.c.suspectSubflow(s.nowUs, s.p0.sf.id, 'the peer says so');
  t.is(s.out().filter((x) => x.path === 0).length, 1);
  s.advance(20 * MS);
  s.p0.send({ dss: { ack: 2 } });
  t.false(s.p0.sf.isStalled);
});

test('keepalives of an idle path: after three without an answer it is suspected, long before TCP gives it up', (t) => {
  const s = MptcpScript.joined(2, { config: { tcp: TUNNEL_KEEPALIVE } });
  s.out();
  const idle = s.advance(54 * S);
  t.is(idle.length, 0);
  let asked = 0;
  for (let i = 0; i < 60 && !s.p0.sf.isStalled; i++) {
    asked += s.advance(100 * MS).filter((x) => x.path === 0 && x.len === 0).length;
  }
  t.is(asked, 4, 'three, and the first probe of a suspected path');
  t.true(s.p0.sf.isStalled, 'within a minute of the last sign of life');
  t.is(s.p0.sf.stallReason, 'keepalives unanswered');
  s.advance(100 * S);
  t.is(s.c.subflows.length, 2, 'not closed');
  s.p0.send({ dss: { ack: 2 } });
  t.false(s.p0.sf.isStalled);
});

test('a keepalive that is answered costs one exchange a minute and suspects nobody', (t) => {
  const s = MptcpScript.joined(1, { config: { tcp: TUNNEL_KEEPALIVE } });
  let probes = 0;
  for (let i = 0; i < 600; i++) {
    const sent = s.advance(1 * S);
    probes += sent.length;
    if (sent.length > 0) s.p0.send({ dss: { ack: 2 } });
  }
  t.true(probes >= 10 && probes <= 11, `${probes} in ten minutes`);
  t.is(s.counter('MPTcpExtSubflowStale'), 0);
});
