/** Path MTU of a subflow: reports (RFC 1191, 8201, 5927 7.2), black holes and the search upwards (RFC 4821 7). */
import test from 'ava';
import { PathMtu } from '../../../src/core/tcp/pmtu.js';
import type { Seg } from '../../support/tcp-pair.js';
import { type ScriptOptions, TcpScript } from '../../support/tcp-script.js';

const MSS = 1448;
const S = 1_000_000;
/** IP, TCP and timestamps around the payload. */
const HEADERS = 52;
const at = (i: number) => 1 + i * MSS;

function established(options: ScriptOptions = {}): TcpScript {
  return TcpScript.established({ ...options, peer: { wscale: 8, ...options.peer } });
}

function tooBig(s: TcpScript, mtuBytes: number, seq: number): void {
  s.sf.onIcmp(s.nowUs, 'too-big', mtuBytes, (s.iss + seq) >>> 0);
}

/** A receiver behind a path of `mtuBytes` and a round trip of 20 ms: acknowledges and SACKs what passes, for `us`. */
function run(s: TcpScript, us: number, mtuBytes: number): Seg[] {
  let have: [number, number][] = [];
  const all: Seg[] = [];
  let next = s.sf.sndUna;
  const end = s.nowUs + us;
  let pending = s.out();
  while (s.nowUs < end) {
    all.push(...pending);
    let isNews = false;
    for (const x of pending) {
      if (x.len === 0 || x.len + HEADERS > mtuBytes) continue;
      have.push([x.seq, x.seq + x.len]);
      isNews = true;
    }
    have.sort((a, b) => a[0] - b[0]);
    for (const [l, r] of have) if (l <= next && r > next) next = r;
    have = have.filter(([l]) => l > next);
    const later = s.advance(20_000);
    const sack = merged(have).slice(0, 3);
    if (isNews) s.inject({ ack: next, sack });
    pending = [...later, ...s.out()];
  }
  return all;
}

function merged(ranges: [number, number][]): [number, number][] {
  const out: [number, number][] = [];
  for (const [l, r] of ranges) {
    const last = out.at(-1);
    if (last !== undefined && l <= last[1]) last[1] = Math.max(last[1], r);
    else out.push([l, r]);
  }
  return out;
}

test('U1, U5: a validated report lowers the MSS; what is out goes again in smaller segments, the window is untouched', (t) => {
  const s = established();
  s.owner.isTagged = true;
  s.owner.toSend = 10 * MSS;
  s.out();
  const cwnd = s.sf.cc.cwndBytes;
  tooBig(s, 1000, 1);
  t.is(s.sf.mssBytes, 1000 - HEADERS);
  const again = s.out();
  t.is(again[0]!.seq, 1);
  t.true(again.length >= 1 && again.every((x) => x.len <= 948));
  let expected = 1;
  for (const x of again) {
    t.is(x.seq, expected);
    expected += x.len;
  }
  t.false(s.sf.isRecovering);
  t.is(s.sf.cc.cwndBytes, cwnd);
  t.is(s.sf.stats.pmtuReductions, 1);
});

test('U1: a report that quotes nothing in flight is ignored', (t) => {
  const s = established();
  s.owner.toSend = 10 * MSS;
  s.out();
  tooBig(s, 1000, 1_000_000);
  t.is(s.sf.mssBytes, MSS);
  t.is(s.sf.stats.dropIcmpSequence, 1);
});

test('U1: a report about sizes that do arrive waits for a timeout, and is forgotten when its segment arrives', (t) => {
  const s = established();
  s.owner.toSend = 20 * MSS;
  s.out();
  s.inject({ ack: at(2) });
  s.out();
  tooBig(s, 1000, at(3));
  t.is(s.sf.mssBytes, MSS, 'a forger who knows a sequence number');
  s.inject({ ack: at(5) });
  s.out();
  s.advance(3 * S);
  t.is(s.sf.stats.rtos > 0, true);
  t.true(s.sf.mssBytes > 1000 - HEADERS, 'its segment had arrived');

  const r = established();
  r.owner.toSend = 20 * MSS;
  r.out();
  r.inject({ ack: at(2) });
  r.out();
  tooBig(r, 1000, at(3));
  r.advance(400_000);
  t.is(r.sf.stats.rtos, 1);
  t.is(r.sf.mssBytes, 1000 - HEADERS, 'nothing arrives any more: the route has changed');
});

test('U1: a report without an MTU, from a router older than RFC 1191: the next plateau', (t) => {
  const s = established();
  s.owner.toSend = 10 * MSS;
  s.out();
  tooBig(s, 0, 1);
  t.is(s.sf.mssBytes, 1400 - HEADERS);
  tooBig(s, 0, 1);
  t.is(s.sf.mssBytes, 1280 - HEADERS);
});

test('U2: no report takes the MTU below 552 bytes (IPv4) or 1280 (IPv6)', (t) => {
  const s = established();
  s.owner.toSend = 10 * MSS;
  s.out();
  tooBig(s, 100, 1);
  t.is(s.sf.mssBytes, 552 - HEADERS);
  const six = TcpScript.established({ family: 6, peer: { mss: 1440 } });
  six.owner.toSend = 5_000;
  six.out();
  tooBig(six, 100, 1);
  t.is(six.sf.mssBytes, 1280 - 72);
});

test('U3: ten minutes after a decrease one probe of the old size leaves; if it arrives, that is the size again', (t) => {
  const s = established();
  s.owner.toSend = MSS;
  s.out();
  tooBig(s, 1200, 1);
  s.inject({ ack: at(1) });
  const early = s.owner.pulled;
  s.nowUs += 599 * S;
  s.owner.toSend += 8 * 1148;
  t.true(s.out().every((x) => x.len <= 1148));
  s.inject({ ack: s.sf.sndNxt });
  s.nowUs += 2 * S;
  s.owner.toSend += 20 * 1148;
  const sent = [...s.out(), ...s.advance(5_000)];
  t.is(sent.filter((x) => x.len > 1148).length, 1, 'one probe');
  t.is(sent[0]!.len, MSS);
  t.is(s.sf.mssBytes, 1148, 'not before it has arrived');
  s.inject({ ack: sent[0]!.seq + sent[0]!.len });
  t.is(s.sf.mssBytes, MSS);
  t.true(s.owner.pulled > early);
});

test('U3: a peer without SACK: the old size is simply used again', (t) => {
  const s = established({ peer: { sackOk: false } });
  s.owner.toSend = MSS;
  s.out();
  tooBig(s, 1200, 1);
  s.inject({ ack: at(1) });
  s.nowUs += 599 * S;
  s.out();
  t.is(s.sf.mssBytes, 1148);
  s.nowUs += 2 * S;
  s.out();
  t.is(s.sf.mssBytes, MSS);
});

test('U4: full segments that vanish while small ones pass: smaller ones after two timeouts, then the largest that fits', (t) => {
  const s = established();
  s.owner.toSend = 20_000 * MSS;
  run(s, 4 * S, 1360);
  t.true(s.sf.mssBytes <= 1360 - HEADERS, `${s.sf.mssBytes}`);
  run(s, 60 * S, 1360);
  t.true(s.sf.mssBytes + HEADERS > 1360 - 16 && s.sf.mssBytes + HEADERS <= 1360, `${s.sf.mssBytes + HEADERS}`);
  const probes = s.sf.stats.pmtuProbes;
  t.true(probes >= 3 && probes <= 12, `${probes}`);
  run(s, 30 * S, 1360);
  t.is(s.sf.stats.pmtuProbes, probes, 'the search has converged');
});

test('U4: a dead path looks like a black hole; when it returns it has its full size again at once', (t) => {
  const s = established();
  s.owner.toSend = 2_000 * MSS;
  s.out();
  s.advance(5 * S);
  t.true(s.sf.mssBytes < MSS, 'suspected');
  s.sf.kick(s.nowUs);
  run(s, S, 1500);
  t.is(s.sf.mssBytes, MSS);
});

test('U5: a probe that is lost costs one retransmission, in segments that fit, and no window', (t) => {
  const s = established();
  s.owner.isTagged = true;
  s.owner.toSend = MSS;
  s.out();
  tooBig(s, 1200, 1);
  run(s, 100_000, 1200);
  s.nowUs += 601 * S;
  s.owner.toSend += 100 * MSS;
  const sent = [...s.out(), ...s.advance(5_000)];
  const probe = sent[0]!;
  t.is(probe.len, MSS);
  const cwnd = s.sf.cc.cwndBytes;
  const next = sent[1]!;
  s.nowUs += 20_000;
  const again = s.exchange({ ack: probe.seq, sack: [[next.seq, next.seq + 4 * 1148]] });
  t.deepEqual(
    again.slice(0, 2).map((x) => [x.seq, x.len]),
    [
      [probe.seq, 1148],
      [probe.seq + 1148, MSS - 1148],
    ],
  );
  t.false(s.sf.isRecovering);
  t.is(s.sf.stats.fastRecoveries, 0);
  t.true(s.sf.cc.cwndBytes >= cwnd);
  t.is(s.sf.mssBytes, 1148);
});

test('RFC 4821 7.6: what the loss of a probe says depends on what else was lost', (t) => {
  const search = () => {
    const pmtu = new PathMtu(1500, false);
    pmtu.onPacketTooBig(0, 1200, 1);
    pmtu.maybeRaise(600 * S, true);
    t.is(pmtu.probeSizeBytes(600 * S), 1500);
    pmtu.onProbeSent(100, 1548, 1500);
    t.is(pmtu.probeSizeBytes(600 * S), 0, 'one at a time');
    return pmtu;
  };
  const alone = search();
  alone.onProbeLost(600 * S, 'alone', S);
  t.is(alone.probeSizeBytes(601 * S - 1), 0, 'not before the usual time between losses');
  t.is(alone.probeSizeBytes(601 * S), 1350, 'half way');
  const timeout = search();
  timeout.onProbeLost(600 * S, 'timeout', S);
  t.is(timeout.probeSizeBytes(605 * S - 1), 0);
  t.is(timeout.probeSizeBytes(605 * S), 1350);
  const amid = search();
  amid.onProbeLost(600 * S, 'amid', S);
  t.is(amid.probeSizeBytes(600 * S), 1500, 'inconclusive: the same again');
  const reported = search();
  t.false(reported.onPacketTooBig(600 * S, 1400, 100));
  reported.onProbeLost(600 * S, 'alone', 0);
  t.is(reported.probeSizeBytes(600 * S), 1300, 'the report bounds the search');
});

test('RFC 4821 7.3: the search ends at the peer’s MSS, and within 16 bytes', (t) => {
  const s = established({ peer: { mss: 1300 } });
  s.owner.toSend = 1288;
  s.out();
  tooBig(s, 1340, 1);
  t.is(s.sf.mssBytes, 1288);
  s.inject({ ack: 1289 });
  s.nowUs += 601 * S;
  s.owner.toSend += 100_000;
  s.out();
  t.is(s.sf.stats.pmtuProbes, 0);

  const pmtu = new PathMtu(1500, false);
  pmtu.onPacketTooBig(0, 1490, 1);
  pmtu.maybeRaise(600 * S, true);
  pmtu.onProbeSent(1, 1449, 1500);
  pmtu.onProbeLost(600 * S, 'alone', 0);
  t.false(pmtu.isSearching);
  pmtu.maybeRaise(1_199 * S, true);
  t.false(pmtu.isSearching);
  pmtu.maybeRaise(1_200 * S, true);
  t.true(pmtu.isSearching, 'and resumes after ten minutes');
});

test('the link’s own MTU: used at once, unless the path was found smaller', (t) => {
  const s = established();
  s.sf.onMtuChange(1400);
  t.is(s.sf.mssBytes, 1400 - HEADERS);
  s.sf.onMtuChange(1500);
  t.is(s.sf.mssBytes, MSS);
  s.owner.toSend = MSS;
  s.out();
  tooBig(s, 1200, 1);
  s.sf.onMtuChange(1400);
  t.is(s.sf.mssBytes, 1148);
});

test('U6: each subflow starts from the MTU of its own link', (t) => {
  for (const mtuBytes of [1500, 1280]) {
    const s = established({ config: { mtuBytes } });
    t.is(s.sf.mssBytes, mtuBytes - HEADERS);
    s.owner.toSend = 5_000;
    t.is(s.out()[0]!.len, mtuBytes - HEADERS);
  }
});
