/** Opening: RFC 9293 3.5, 3.10.7; checklist T7, T8, T11, T18, T19, T22, T23, S1, S2, O6, E1, K8. */
import test from 'ava';
import { IsnGenerator } from '../../../src/core/tcp/isn.js';
import { resetFor } from '../../../src/core/tcp/reset.js';
import { TCP_ACK, TCP_RST } from '../../../src/core/wire/segment.js';
import { flowTuple, seededEnv } from '../../support/tcp-pair.js';
import { brief, TcpScript } from '../../support/tcp-script.js';

test('active open: SYN with MSS, window scale, SACK-permitted, timestamps; SYN/ACK; ACK', (t) => {
  const s = new TcpScript();
  s.sf.connect(s.nowUs);
  const [syn] = s.out();
  t.like(syn, { flags: 'S', seq: 0, mss: 1460, wscale: 8, sackOk: true, len: 0, win: 65535, ecn: 0 });
  t.is(syn!.optionBytes, 20);
  t.is(s.sf.state, 'syn-sent');
  s.nowUs += 30_000;
  t.deepEqual(brief(s.exchange({ flags: 'S.', seq: 0, ack: 1, ...s.synOptions() })), ['. 1 ack 1']);
  t.is(s.sf.state, 'established');
  t.is(s.sf.rtt.srttUs, 30_000);
  t.deepEqual(s.owner.events, ['established']);
});

test('passive open: SYN/ACK offers only what the SYN offered', (t) => {
  const s = new TcpScript({ passive: true, peer: { wscale: -1, sackOk: false, ts: false } });
  s.accept();
  const [synAck] = s.out();
  t.like(synAck, { flags: 'S.', seq: 0, ack: 1, mss: 1460 });
  t.is(synAck!.wscale, undefined);
  t.is(synAck!.sackOk, undefined);
  t.is(synAck!.ts, undefined);
  s.inject({ flags: '.', seq: 1, ack: 1 });
  t.is(s.sf.state, 'established');
});

test('S1: a shift above 14 is taken as 14; S2: the window of a SYN is not scaled', (t) => {
  const s = TcpScript.established({ peer: { wscale: 15, win: 1000 } });
  t.is(s.sf.sndWndShift, 14);
  t.is(s.sf.sndWndBytes, 1000);
  s.inject({ ack: 1, win: 2 });
  t.is(s.sf.sndWndBytes, 2 << 14);

  const answering = new TcpScript();
  answering.accept();
  const [synAck] = answering.out();
  t.like(synAck, { flags: 'S.', win: 65_535 });
});

test('T8: no MSS option means 536 (IPv4) and 1220 (IPv6); T9: options come off the MSS', (t) => {
  t.is(TcpScript.established({ peer: { mss: -1 } }).sf.mssBytes, 536 - 12);
  t.is(TcpScript.established({ peer: { mss: -1 }, family: 6 }).sf.mssBytes, 1220 - 12);
  const s = new TcpScript();
  s.owner.optionBytes = 20;
  s.sf.connect(s.nowUs);
  s.out();
  s.inject({ flags: 'S.', seq: 0, ack: 1, ...s.synOptions() });
  t.is(s.sf.mssBytes, 1460 - 12 - 20);
});

test('T11: crossing SYNs open one connection', (t) => {
  const s = new TcpScript();
  s.sf.connect(s.nowUs);
  s.out();
  t.like(s.exchange({ flags: 'S', seq: 0, ...s.synOptions() })[0], { flags: 'S.', seq: 0, ack: 1 });
  t.is(s.sf.state, 'syn-received');
  s.inject({ flags: 'S.', seq: 0, ack: 1, ...s.synOptions() });
  t.is(s.sf.state, 'established');
});

test('T11: SYN-RECEIVED and RST: gone, so that the listener is as before', (t) => {
  const s = new TcpScript({ passive: true });
  s.accept();
  s.out();
  s.inject({ flags: 'R', seq: 1 });
  t.is(s.sf.state, 'closed');
  t.deepEqual(s.owner.events, ['closed:reset']);
});

test('SYN-SENT: an ACK of nothing we sent is answered with its own number as RST, and we go on waiting', (t) => {
  const s = new TcpScript();
  s.sf.connect(s.nowUs);
  s.out();
  t.like(s.exchange({ flags: '.', seq: 500, ack: 77 })[0], { flags: 'R', seq: 77 });
  t.is(s.sf.state, 'syn-sent');
  t.deepEqual(s.exchange({ flags: 'R.', seq: 0, ack: 77 }), []);
  t.is(s.sf.state, 'syn-sent');
  s.inject({ flags: 'R.', seq: 0, ack: 1 });
  t.deepEqual(s.owner.events, ['closed:refused']);
});

test('T22, O1: the SYN is repeated at 1, 2, 4, … s, for more than 3 minutes, then given up', (t) => {
  const s = new TcpScript();
  s.sf.connect(s.nowUs);
  s.out();
  const sent = s.advance(400_000_000);
  t.deepEqual(
    sent.map((x) => x.atMs / 1000),
    [1, 3, 7, 15, 31, 63, 123],
  );
  t.true(sent.every((x) => x.flags === 'S' && x.seq === 0));
  t.deepEqual(s.owner.events, ['closed:timeout']);
});

test('O6: after a retransmitted SYN, data without an RTT sample starts with 3 s', (t) => {
  const s = new TcpScript({ config: { useTimestamps: false }, peer: { ts: false } });
  s.sf.connect(s.nowUs);
  s.out();
  t.is(s.advance(1_000_000).length, 1);
  s.exchange({ flags: 'S.', seq: 0, ack: 1, ...s.synOptions() });
  t.is(s.sf.rtt.rtoUs, 3_000_000);
});

test('a lost SYN/ACK: the SYN again gets the SYN/ACK again', (t) => {
  const s = new TcpScript({ passive: true });
  s.accept();
  t.is(s.out().length, 1);
  t.like(s.exchange({ flags: 'S', seq: 0, ...s.synOptions() })[0], { flags: 'S.', seq: 0, ack: 1 });
});

test('SYN-RECEIVED: an ACK of something else is answered with RST', (t) => {
  const s = new TcpScript({ passive: true });
  s.accept();
  s.out();
  t.like(s.exchange({ flags: '.', seq: 1, ack: 500 })[0], { flags: 'R', seq: 500 });
  t.is(s.sf.state, 'syn-received');
});

test('T23: data in the SYN is kept until the handshake is complete, then delivered', (t) => {
  const s = new TcpScript({ passive: true });
  const view = s.build({ flags: 'S', seq: 0, len: 100, ...s.synOptions() });
  s.sf.accept(s.nowUs, view);
  view.buf.fill(0); // lent only
  t.like(s.out()[0], { flags: 'S.', ack: 101 });
  t.is(s.owner.received, 0);
  s.inject({ flags: '.', seq: 101, ack: 1 });
  t.is(s.owner.received, 100);
  t.is(s.owner.mismatches, 0);
});

test('T19: a hard ICMP error ends SYN-SENT only if it quotes our SYN; never an established connection', (t) => {
  const s = new TcpScript();
  s.sf.connect(s.nowUs);
  s.out();
  s.sf.onIcmp(s.nowUs, 'hard', 0, (s.iss + 5) >>> 0);
  t.is(s.sf.state, 'syn-sent');
  t.is(s.sf.stats.dropIcmpSequence, 1);
  s.sf.onIcmp(s.nowUs, 'hard', 0, s.iss, 3);
  t.deepEqual(s.owner.events, ['closed:unreachable']);
  t.is(s.sf.icmpCode, 3, 'the code is kept for whoever asks why');

  const e = TcpScript.established();
  e.owner.toSend = 100;
  e.out();
  e.sf.onIcmp(e.nowUs, 'hard', 0, (e.iss + 1) >>> 0);
  t.is(e.sf.state, 'established');
});

test('E1: ECN-setup SYN and SYN/ACK; a repeated SYN asks no more', (t) => {
  const s = new TcpScript({ config: { useEcn: true } });
  s.sf.connect(s.nowUs);
  t.is(s.out()[0]!.flags, 'SEW');
  t.is(s.advance(1_000_000)[0]!.flags, 'S');
  const p = new TcpScript({ passive: true, config: { useEcn: true } });
  p.accept({ flags: 'SEW' });
  t.is(p.out()[0]!.flags, 'S.E');
  const q = new TcpScript({ passive: true, config: { useEcn: true } });
  q.accept({ flags: 'S' });
  t.is(q.out()[0]!.flags, 'S.');
});

test('the owner may refuse a handshake: RST on a SYN/ACK that it does not like', (t) => {
  const s = new TcpScript();
  s.sf.connect(s.nowUs);
  s.out();
  s.owner.verdict = 'reset';
  s.inject({ flags: 'S.', seq: 0, ack: 1, ...s.synOptions() });
  t.is(s.sf.state, 'closed');
  t.true(s.sf.hasWork(s.nowUs));
  t.like(s.out()[0], { flags: 'R.', seq: 1, ack: 1 });
});

test('K8: the first flight is at most 10 segments', (t) => {
  const s = TcpScript.established({ config: { useTimestamps: false }, peer: { ts: false } });
  s.owner.toSend = 100_000;
  const flight = s.out();
  t.is(flight.length, 10);
  t.true(flight.reduce((sum, x) => sum + x.len, 0) <= 14_600);
});

test('T7: ISNs differ by flow and secret, and move with the clock', (t) => {
  const g = new IsnGenerator(seededEnv(1));
  const a = g.next(0, flowTuple(0));
  t.not(a, g.next(0, flowTuple(1)));
  t.not(a, new IsnGenerator(seededEnv(2)).next(0, flowTuple(0)));
  t.is(g.next(4_000_000, flowTuple(0)), (a + 1_000_000) >>> 0);
});

test('T18: the RST for a segment to no connection', (t) => {
  const s = new TcpScript();
  const answer = (x: Parameters<TcpScript['build']>[0]) => resetFor(s.build(x));
  t.deepEqual(answer({ flags: '.', seq: 10, ack: 77 }), { seq: (s.iss + 77) >>> 0, ack: 0, flags: TCP_RST });
  t.deepEqual(answer({ flags: 'S', seq: 0 }), { seq: 0, ack: (s.peerIsn + 1) >>> 0, flags: TCP_RST | TCP_ACK });
  t.deepEqual(answer({ flags: 'F', seq: 5, len: 10 }), {
    seq: 0,
    ack: (s.peerIsn + 16) >>> 0,
    flags: TCP_RST | TCP_ACK,
  });
  t.is(answer({ flags: 'R', seq: 0 }), null);
});

test('K8: the initial window is that of the MSS agreed, and one segment after a second repetition of the SYN', (t) => {
  const firstFlight = (options: ConstructorParameters<typeof TcpScript>[0], repetitions: number) => {
    const s = new TcpScript(options);
    s.sf.connect(s.nowUs);
    s.out();
    for (let i = 0; i < repetitions; i++) s.advance(1_000_000 * 2 ** i);
    s.inject({ flags: 'S.', seq: 0, ack: 1, ...s.synOptions() });
    s.owner.toSend = 200_000;
    return s.out().reduce((sum, x) => sum + x.len, 0);
  };
  t.is(firstFlight({ peer: { mss: 536 } }, 0), 10 * 524);
  t.is(firstFlight({ config: { mtuBytes: 9000 }, peer: { mss: 8960 } }, 0), 2 * 8948);
  t.is(firstFlight({}, 1), 10 * 1448);
  t.is(firstFlight({}, 2), 1448);
});

test('S4: a SYN echoes nothing, as it acknowledges nothing', (t) => {
  const s = new TcpScript();
  s.sf.connect(s.nowUs);
  t.is(s.out()[0]!.ts![1], 0);
});

test('T9: timestamps and a DSS of 20 bytes leave 1428 of 1460, one of 28 bytes 1420', (t) => {
  for (const [optionBytes, mss] of [
    [20, 1428],
    [28, 1420],
  ] as const) {
    const s = new TcpScript();
    s.owner.optionBytes = optionBytes;
    s.sf.connect(s.nowUs);
    s.out();
    s.inject({ flags: 'S.', seq: 0, ack: 1, ...s.synOptions() });
    s.owner.toSend = 3000;
    t.is(s.out()[0]!.len, mss);
  }
});
