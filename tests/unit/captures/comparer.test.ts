/** The comparer has teeth: a kernel's own words, altered in one place, are not what the kernel said. */
import test from 'ava';
import { ipFromBytes } from '../../../src/core/base/ip.js';
import { MPO } from '../../../src/core/wire/mptcp-options.js';
import { parseSegment, SegmentView, TCP_ACK, TCP_SYN } from '../../../src/core/wire/segment.js';
import { compare, type Difference } from '../../support/capture-compare.js';
import { statements } from '../../support/capture-says.js';
import { decode, readTrace, type Segment, type Trace } from '../../support/capture-trace.js';
import type { End } from '../../support/vectors.js';

/** What the comparer finds when `change` has been at the packets that one end of a capture sent. */
function found(capture: string, end: End, change: (own: Segment[], trace: Trace) => Segment[]): Difference[] {
  const trace = readTrace(capture, end);
  const altered = change(trace.own, trace);
  // Moments of rest: after each of the kernel's segments, so that any DATA_ACK counts.
  const marks = trace.own.map((_, i) => i + 1);
  return compare(statements(trace, trace.own, marks), statements(trace, altered, marks));
}

/** The segment with a byte of the option of kind 30 and `subtype` changed. */
function alter(trace: Trace, s: Segment, subtype: number, at: number): Segment {
  const ip = s.ip.slice();
  const seg = new SegmentView();
  parseSegment(ip, 0, ip.length, 0, seg);
  for (let o = seg.l4Off + 20; o < seg.payloadOff; o += ip[o]! < 2 ? 1 : ip[o + 1]!) {
    if (ip[o] === 30 && ip[o + 2]! >>> 4 === subtype) ip[o + at]! ^= 1;
  }
  parseSegment(ip, 0, ip.length, 0, seg);
  return decode(trace, ip, seg, s.timeUs, 'own')!;
}

const names = (differences: Difference[]) => differences.map((d) => d.what);

test('a capture does not differ from itself', (t) => {
  t.deepEqual(
    found('04-join-from-client-v4', 'A', (own) => own),
    [],
  );
  t.deepEqual(
    found('19-mpfail-two-subflows', 'A', (own) => own),
    [],
  );
});

test('a wrong HMAC is found, in the SYN/ACK and in the third packet of a join', (t) => {
  const isJoinAnswer = (s: Segment) =>
    (s.flags & (TCP_SYN | TCP_ACK)) === (TCP_SYN | TCP_ACK) && s.handshake.startsWith('MP_JOIN');
  const inSynAck = found('04-join-from-client-v4', 'B', (own, trace) =>
    own.map((s) => (isJoinAnswer(s) ? alter(trace, s, 1, 5) : s)),
  );
  t.deepEqual(names(inSynAck), ['sf1 SYN/ACK asks']);
  const isProof = (s: Segment) => (s.flags & TCP_SYN) === 0 && s.handshake.startsWith('MP_JOIN');
  const inThird = found('04-join-from-client-v4', 'A', (own, trace) =>
    own.map((s) => (isProof(s) ? alter(trace, s, 1, 20) : s)),
  );
  t.deepEqual(names(inThird), ['sf1 proof']);
});

test('a wrong HMAC of an ADD_ADDR, and a missing echo are found', (t) => {
  const announces = (s: Segment) => s.addAddrs.some((a) => !a.echo);
  const wrong = found('05-addaddr-server-join-client-v4', 'B', (own, trace) =>
    own.map((s) => (announces(s) ? alter(trace, s, 3, 15) : s)),
  );
  t.deepEqual(names(wrong), ['ADD_ADDR 1']);
  const echoes = (s: Segment) => s.addAddrs.some((a) => a.echo);
  const missing = found('05-addaddr-server-join-client-v4', 'A', (own) =>
    own.map((s) => (echoes(s) ? { ...s, addAddrs: [], signals: [] } : s)),
  );
  t.deepEqual(names(missing), ['ADD_ADDR 1 echo']);
});

test('a wrong DATA_ACK is found', (t) => {
  const isLast = (s: Segment, own: Segment[]) => s === own.findLast((x) => x.dataAck > 0);
  const differences = found('01-capable-client-first-v4', 'B', (own, trace) =>
    own.map((s) => (s.dataAck === 3102 || isLast(s, own) ? alter(trace, s, 2, 10) : s)),
  );
  t.true(differences.length > 0);
  t.true(differences.every((d) => d.what.endsWith('DATA_ACK')));
});

test('a missing DATA_FIN is found, altogether and on one subflow', (t) => {
  const silence = (s: Segment) => ({ ...s, dataFin: -1 });
  t.deepEqual(names(found('04-join-from-client-v4', 'A', (own) => own.map(silence))), ['DATA_FIN']);
  const onOne = found('04-join-from-client-v4', 'A', (own) => own.map((s) => (s.subflow === 1 ? silence(s) : s)));
  t.deepEqual(names(onOne), ['DATA_FIN']);
});

test('a mapping to other data, a wrong checksum, and a missing flag are found', (t) => {
  const shift = (s: Segment) => (s.mapping === null ? s : { ...s, mapping: { ...s.mapping, dsn: s.mapping.dsn + 1 } });
  t.true(names(found('08-removeaddr-from-client', 'A', (own) => own.map(shift))).includes('sf0 data'));
  const spoil = (s: Segment) =>
    s.mapping === null ? s : { ...s, mapping: { ...s.mapping, checksum: s.mapping.checksum ^ 1 } };
  t.true(names(found('16-checksum-both', 'A', (own) => own.map(spoil))).includes('sf0 checksums'));
  const first = found('16-checksum-both', 'A', (own, trace) =>
    own.map((s) => ((s.flags & TCP_SYN) !== 0 ? alter(trace, s, 0, 3) : s)),
  );
  t.deepEqual(names(first), ['sf0 SYN asks']);
});

test('missing signals and reasons are found: REMOVE_ADDR, MP_PRIO, MP_FAIL, MP_FASTCLOSE, MP_TCPRST', (t) => {
  const mute = (s: Segment) => ({ ...s, signals: [] });
  t.deepEqual(
    names(found('11-removeaddr-multiple-ids', 'B', (own) => own.map((s) => (s.removeIds.length > 0 ? mute(s) : s)))),
    ['REMOVE_ADDR'],
  );
  t.deepEqual(names(found('12-mpprio-backup-toggle', 'A', (own) => own.map(mute))), ['MP_PRIO']);
  t.deepEqual(names(found('20-mpfail-single-subflow-infinite', 'B', (own) => own.map(mute))), ['MP_FAIL']);
  t.deepEqual(names(found('15-fastclose-server-unread', 'B', (own) => own.map(mute))), ['MP_FASTCLOSE']);
  const unreasoned = found('27-join-bad-token', 'B', (own) => own.map((s) => ({ ...s, resetReason: '' })));
  t.deepEqual(names(unreasoned), ['sf1 RST']);
});

test('the altered packets are real: the parser reads another value', (t) => {
  const trace = readTrace('04-join-from-client-v4', 'A');
  const syn = trace.own.find((s) => s.handshake.includes('token'))!;
  const altered = alter(trace, syn, 1, 4);
  t.not(altered.handshake, syn.handshake);
  const seg = new SegmentView();
  t.is(parseSegment(altered.ip, 0, altered.ip.length, 0, seg), 'ok');
  t.true((seg.mptcp.present & MPO.join) !== 0);
  t.is(ipFromBytes(altered.ip, seg.srcOff, 4).text, '10.0.2.1');
});
