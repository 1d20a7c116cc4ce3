/** Sending: windows, probes, pacing, super-packets, ECN, closing; RFC 9293 3.6 to 3.8, RFC 3168 6.1. */
import test from 'ava';
import { NEVER } from '../../../src/core/base/time.js';
import { StreamOwner } from '../../support/tcp-pair.js';
import { brief, type ScriptOptions, TcpScript } from '../../support/tcp-script.js';

const MSS = 1448;
const at = (i: number) => 1 + i * MSS;

function established(options: ScriptOptions = {}): TcpScript {
  return TcpScript.established({ ...options, peer: { wscale: 8, ...options.peer } });
}

test('T14: a shut window is probed with back-off for as long as the probes are answered', (t) => {
  const s = established();
  s.inject({ win: 0 });
  s.owner.toSend = 100;
  t.deepEqual(s.out(), []);
  const times: number[] = [];
  for (let elapsed = 0; elapsed < 300_000; elapsed += 100) {
    for (const probe of s.advance(100_000)) {
      times.push(elapsed + probe.atMs);
      t.deepEqual(brief([probe]), ['. 0 ack 1']);
      s.inject({ win: 0 });
    }
  }
  t.true(times.length > 8 && times.length < 20, `${times}`);
  const gaps = times.slice(1).map((x, i) => x - times[i]!);
  t.true(gaps[1]! > 1.5 * gaps[0]! && gaps.at(-1)! <= 60_000);
  t.is(s.sf.state, 'established');
  t.deepEqual(brief(s.exchange({ win: 100 })), ['P. 1:101 ack 1']);
  t.is(s.sf.stats.zeroWindowProbes, times.length);
});

test('T14: a window shut at connection level is probed although the subflow’s own is open', (t) => {
  const s = established();
  let isBlocked = true;
  Object.assign(s.owner, { isWindowBlocked: () => isBlocked });
  t.true(s.sf.hasWork(s.nowUs), 'to arm the timer');
  t.deepEqual(s.out(), []);
  t.false(s.sf.hasWork(s.nowUs));
  const probes = s.advance(3_000_000);
  t.true(probes.length >= 3 && probes.length <= 5);
  t.true(probes.every((x) => x.flags === '.' && x.seq === 0 && x.len === 0));
  isBlocked = false;
  t.deepEqual(s.advance(60_000_000), []);
});

test('a link that was away for longer than R2 does not end the subflow when it is back', (t) => {
  const s = established();
  s.owner.toSend = MSS;
  s.out();
  s.nowUs += 600_000_000; // its clocks stood still: nobody called onTimer
  s.sf.kick(s.nowUs);
  s.sf.onTimer(s.nowUs);
  t.is(s.out()[0]!.seq, 1);
  s.inject({ ack: at(1) });
  t.is(s.sf.state, 'established');
});

test('while the owner probes a path, the owner decides when to give it up', (t) => {
  const s = established();
  s.owner.toSend = MSS;
  s.out();
  s.sf.setProbeInterval(5_000_000);
  t.true(s.advance(600_000_000).length >= 119);
  t.is(s.sf.state, 'established');
});

test('T16: a small window is not filled with crumbs, until the override timeout', (t) => {
  const s = established({ peer: { wscale: 0 } });
  s.inject({ win: 60_000 });
  s.inject({ win: 200 });
  s.owner.toSend = 5_000;
  t.deepEqual(s.out(), []);
  const sent = s.advance(1_000_000);
  t.is(sent[0]!.len, 200);
});

test('T16: a receiver whose buffer is small gets half of it at a time', (t) => {
  const s = established({ peer: { wscale: 0, win: 1_000 } });
  s.owner.toSend = 5_000;
  t.deepEqual(brief(s.out()), ['. 1:1001 ack 1']);
});

test('T15: a window that shrank: no new data beyond it, what is out is still retransmitted', (t) => {
  const s = established({ peer: { wscale: 0 } });
  s.owner.toSend = 20 * MSS;
  t.is(s.out().length, 10);
  s.inject({ ack: at(2), win: 2 * MSS });
  t.deepEqual(s.out(), []);
  t.true(s.advance(2_000_000).length > 0);
});

test('T16: Nagle when asked for: a part of a segment waits for the ACK', (t) => {
  const s = established({ config: { noDelay: false } });
  s.owner.toSend = 100;
  t.is(s.out().length, 1);
  s.owner.toSend = 200;
  t.deepEqual(s.out(), []);
  t.deepEqual(brief(s.exchange({ ack: 101 })), ['P. 101:201 ack 1']);
  s.owner.toSend = 300;
  s.sf.setNoDelay(true);
  t.is(s.out().length, 1);
});

test('pacing: a late wake-up sends what accrued, at most 2 ms worth', (t) => {
  const s = established({ config: { initialCwndSegments: 1000 } });
  s.owner.toSend = 40 * MSS;
  t.true(s.out().length > 0);
  s.nowUs += 100_000;
  s.inject({ ack: s.sf.sndNxt }); // now there is a rate
  const rate = s.sf.cc.pacingRateBytesPerS;
  t.true(rate > 1_000_000 && Number.isFinite(rate));
  s.owner.toSend += 1000 * MSS;
  const burst = () => s.out().reduce((sum, x) => sum + x.len, 0);
  burst();
  s.nowUs += 50_000;
  const late = burst();
  t.true(late <= (rate * 2_000) / 1e6 + MSS && late >= (rate * 1_500) / 1e6 - MSS, `${late} at ${rate}`);
  t.is(burst(), 0);
  const deadline = s.sf.nextDeadline();
  t.true(deadline > s.nowUs && deadline <= s.nowUs + 1_100, 'wakes when a quantum has accrued');
  t.is(s.sf.readyAtUs(s.nowUs), deadline);
  t.is(s.sf.availableBytes(s.nowUs), 0);
  t.true(s.sf.availableBytes(deadline) >= 2 * MSS);
  t.true(s.sf.nextDeadline() > deadline, 'nobody is woken again for credit that is there');
});

test('super-packets: whole segments, at most what 1 ms sends, at least two segments', (t) => {
  const s = established({ config: { initialCwndSegments: 1000 } });
  s.owner.toSend = 45 * MSS - 17;
  const first = s.outWhole();
  t.true(first.every((x) => x.len <= 65_280));
  t.is(
    first.reduce((sum, x) => sum + x.len, 0),
    45 * MSS - 17,
  );
  s.nowUs += 100_000;
  s.inject({ ack: s.sf.sndNxt });
  s.owner.toSend += 1000 * MSS;
  const rate = s.sf.cc.pacingRateBytesPerS;
  for (let i = 0; i < 20; i++) {
    s.nowUs += 1_000;
    for (const x of s.outWhole()) {
      t.is(x.len % MSS, 0);
      t.true(x.len >= 2 * MSS && x.len <= Math.max(2 * MSS, rate / 1000), `${x.len}`);
    }
  }
});

test('a full batch: what found no room goes at the next poll', (t) => {
  const s = established();
  s.owner.toSend = 10 * MSS;
  s.inject({ len: 100 });
  s.sink.room = 1;
  s.sf.pollTransmit(s.nowUs, s.sink);
  t.is(s.sink.packets.length, 1);
  s.sink.room = 0;
  s.sf.requestAck(s.nowUs);
  s.sf.pollTransmit(s.nowUs, s.sink);
  s.sink.room = Number.POSITIVE_INFINITY;
  t.true(s.sf.hasWork(s.nowUs));
  s.out();
  t.is(s.owner.pulled, 10 * MSS);
  t.false(s.sf.hasWork(s.nowUs));
});

test('E1, E2: ECT on new data only; ECE: one reduction per window, then CWR', (t) => {
  const s = established({ config: { useEcn: true }, peer: { ece: true } });
  s.owner.toSend = 100 * MSS;
  const first = s.out();
  t.true(first.every((x) => x.ecn === 2));
  const cwnd = s.sf.cc.cwndBytes;
  s.nowUs += 10_000;
  const answer = s.exchange({ flags: 'E.', ack: at(2) });
  const reduced = s.sf.cc.cwndBytes;
  t.true(reduced < cwnd);
  const second = s.exchange({ flags: 'E.', ack: at(4) });
  t.is(s.sf.cc.cwndBytes, reduced);
  const later = [...answer, ...second, ...s.advance(20_000)];
  s.inject({ ack: at(10) });
  later.push(...s.advance(20_000), ...s.out());
  t.is(later.filter((x) => x.flags.includes('W')).length, 1);
  t.is(s.sf.stats.ecnReductions, 1);
});

test('E1: retransmissions are not ECT', (t) => {
  const s = established({ config: { useEcn: true }, peer: { ece: true } });
  s.owner.toSend = 10 * MSS;
  s.out();
  s.nowUs += 10_000;
  const [again] = s.exchange({ ack: 1, sack: [[at(1), at(5)]] });
  t.is(again!.seq, 1);
  t.is(again!.ecn, 0);
});

test('T12: half-close: FIN after the data, and the peer may go on', (t) => {
  const s = established();
  s.owner.toSend = 100;
  s.out();
  s.sf.sendFin(s.nowUs);
  t.deepEqual(brief(s.out()), ['F. 101 ack 1']);
  t.is(s.sf.state, 'fin-wait-1');
  t.false(s.sf.canSendData);
  s.inject({ ack: 102 });
  t.is(s.sf.state, 'fin-wait-2');
  s.inject({ len: 500 });
  t.is(s.owner.received, 500);
  t.deepEqual(brief(s.exchange({ flags: 'F.', seq: 501 })), ['. 102 ack 502']);
  t.is(s.sf.state, 'time-wait');
  t.deepEqual(s.owner.events, ['established', 'fin', 'closed:done']);
});

test('T12: half-close waits for the peer as long as it takes; closed for good, for a minute without news', (t) => {
  for (const isForGood of [false, true]) {
    const s = established();
    s.sf.sendFin(s.nowUs, isForGood);
    s.out();
    s.inject({ ack: 2 });
    // The peer is sending yet.
    for (let i = 0; i < 3; i++) {
      s.advance(50_000_000);
      s.inject({ ack: 2, seq: 1 + i * 100, len: 100 });
    }
    t.is(s.owner.received, 300);
    s.advance(59_000_000);
    t.is(s.sf.state, 'fin-wait-2');
    s.advance(3_600_000_000);
    t.is(s.sf.state, isForGood ? 'closed' : 'fin-wait-2');
    t.deepEqual(s.owner.events, isForGood ? ['established', 'closed:done'] : ['established']);
    if (isForGood) continue;
    s.exchange({ flags: 'F.', seq: 301, ack: 2 });
    t.is(s.sf.state, 'time-wait');
  }
});

test('T13: TIME-WAIT answers the FIN again, starts over, and ends after 2 MSL; a newer SYN may reuse it', (t) => {
  const s = established();
  s.sf.sendFin(s.nowUs);
  s.out();
  s.exchange({ flags: 'F.', seq: 1, ack: 2 });
  t.is(s.sf.state, 'time-wait');
  s.advance(50_000_000);
  t.deepEqual(brief(s.exchange({ flags: 'F.', seq: 1, ack: 2 })), ['. 2 ack 2']);
  s.advance(50_000_000);
  t.is(s.sf.state, 'time-wait');
  t.true(s.sf.acceptsNewSyn(s.build({ flags: 'S', seq: 5_000, ts: [s.peerTs, 0] })));
  t.false(s.sf.acceptsNewSyn(s.build({ flags: 'S', seq: -5_000, ts: [s.peerTs - 100_000, 0] })));
  t.false(s.sf.acceptsNewSyn(s.build({ flags: 'S', seq: 5_000, ts: [s.peerTs - 102_000, 0] })), 'RFC 6191: an old one');
  t.true(s.sf.acceptsNewSyn(s.build({ flags: 'S', seq: 5_000, ts: null })));
  t.false(s.sf.acceptsNewSyn(s.build({ flags: 'S', seq: -5_000, ts: null })));
  s.advance(11_000_000);
  t.is(s.sf.state, 'closed');
  t.is(s.sf.nextDeadline(), NEVER);
});

test('CLOSE-WAIT, LAST-ACK, CLOSED; FIN is retransmitted', (t) => {
  const s = established();
  s.inject({ flags: 'F.', seq: 1 });
  t.is(s.sf.state, 'close-wait');
  t.true(s.sf.canSendData);
  s.out();
  s.sf.sendFin(s.nowUs);
  t.is(s.sf.state, 'last-ack');
  t.deepEqual(brief(s.out()), ['F. 1 ack 2']);
  t.true(brief(s.advance(400_000)).includes('F. 1 ack 2'));
  s.inject({ ack: 2, seq: 2 });
  t.is(s.sf.state, 'closed');
  t.deepEqual(s.owner.events, ['established', 'fin', 'closed:done']);
});

test('both FINs cross: CLOSING, then TIME-WAIT', (t) => {
  const s = established();
  s.sf.sendFin(s.nowUs);
  s.out();
  s.inject({ flags: 'F.', seq: 1, ack: 1 });
  t.is(s.sf.state, 'closing');
  s.inject({ seq: 2, ack: 2 });
  t.is(s.sf.state, 'time-wait');
});

test('a FIN that comes before the data in front of it waits for it', (t) => {
  const s = established();
  s.inject({ flags: 'F.', seq: 101, len: 50 });
  t.is(s.sf.state, 'established');
  s.inject({ seq: 1, len: 100 });
  t.is(s.sf.state, 'close-wait');
  t.is(s.sf.rcvNxt, 152);
});

test('abort: a RST that the peer must take, then silence', (t) => {
  const s = established();
  s.owner.toSend = 100;
  s.out();
  s.sf.abort(s.nowUs, true);
  t.deepEqual(brief(s.out()), ['R. 101 ack 1']);
  t.deepEqual(s.out(), []);
  t.is(s.sf.nextDeadline(), NEVER);
  const seen: number[] = [];
  s.sf.forEachUnacked((seq) => seen.push(seq));
  t.deepEqual(seen, [1], 'the owner can still see what was outstanding');
});

test('a suspected path: one segment per interval and nothing else; progress ends it', (t) => {
  const s = established();
  s.owner.toSend = 20 * MSS;
  s.out();
  s.sf.setProbeInterval(200_000);
  t.is(s.sf.availableBytes(s.nowUs), 0);
  const probes = s.advance(1_100_000);
  t.deepEqual(
    probes.map((x) => [x.seq, x.len, x.atMs]),
    // Perhaps it is only the size that does not pass (RFC 4821 7.7).
    [MSS, 1348, 1348, 1228, 1228].map((len, i) => [1, len, (i + 1) * 200]),
  );
  s.inject({ ack: at(10) });
  s.out();
  s.advance(5_000);
  t.true(s.owner.pulled > 10 * MSS);
});

test('a suspected path with nothing outstanding: an empty segment that must be answered', (t) => {
  const s = established();
  s.sf.setProbeInterval(500_000);
  t.deepEqual(brief(s.advance(1_000_000)), ['. 0 ack 1', '. 0 ack 1']);
  s.inject({});
  t.deepEqual(s.advance(2_000_000), []);
});

test('kick: the back-off is forgotten and a probe leaves at once', (t) => {
  const s = established();
  s.owner.toSend = MSS;
  s.out();
  s.advance(10_000_000);
  t.true(s.sf.rtoCount >= 4);
  s.sf.kick(s.nowUs);
  t.is(s.out()[0]!.seq, 1);
  t.true(s.sf.nextDeadline() - s.nowUs <= s.sf.rtt.rtoUs);
  const syn = new TcpScript();
  syn.sf.connect(syn.nowUs);
  syn.out();
  syn.advance(20_000_000);
  syn.sf.kick(syn.nowUs);
  t.is(syn.out()[0]!.flags, 'S');
  t.is(syn.advance(1_000_000).length, 1);
});

test('requestAck: one pure ACK, also beside data', (t) => {
  const s = established();
  s.owner.toSend = 10;
  s.sf.requestAck(s.nowUs);
  t.true(s.sf.hasWork(s.nowUs));
  t.deepEqual(brief(s.out()), ['. 1 ack 1', 'P. 1:11 ack 1']);
});

test('owner options ride on every kind of segment, within 40 bytes, and off the MSS', (t) => {
  const owner = new StreamOwner();
  owner.optionBytes = 20;
  const s = established({ owner });
  owner.toSend = 2 * (MSS - 20);
  const sent = s.out();
  t.deepEqual(
    sent.map((x) => x.len),
    [MSS - 20, MSS - 20],
  );
  t.true(sent.every((x) => x.optionBytes === 32));
});

test('E2: a window that came down for a loss is announced by CWR too, and not reduced again by marks of the same flight', (t) => {
  const s = established({ config: { useEcn: true }, peer: { ece: true } });
  s.owner.toSend = 40 * MSS;
  s.out();
  s.nowUs += 10_000;
  const sent = s.exchange({ ack: 1, sack: [[at(1), at(6)]] });
  t.is(s.sf.stats.fastRecoveries, 1);
  const reduced = s.sf.cc.cwndBytes;
  for (let i = 7; i <= 10; i++) {
    s.nowUs += 1_000;
    sent.push(...s.exchange({ flags: 'E.', ack: 1, sack: [[at(1), at(i)]] }));
  }
  sent.push(...s.advance(5_000));
  t.true(s.owner.pulled > 10 * MSS, 'new data left');
  t.deepEqual(
    sent.filter((x) => x.flags.includes('W')).map((x) => x.seq),
    [at(10)],
  );
  s.inject({ flags: 'E.', ack: at(10) });
  t.is(s.sf.cc.cwndBytes, reduced);
  t.is(s.sf.stats.ecnReductions, 0);
});
