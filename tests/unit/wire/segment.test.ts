import test from 'ava';
import { parseIp } from '../../../src/core/base/ip.js';
import { formatSegment } from '../../../src/core/wire/format.js';
import {
  IpHeader,
  maxIpPayloadBytes,
  PROTO_TCP,
  PROTO_UDP,
  parseIpHeader,
  pseudoHeaderSum,
  pseudoHeaderSumOf,
  writeIpHeader,
} from '../../../src/core/wire/ip.js';
import {
  parseSegment,
  SegmentView,
  TCP_ACK,
  TCP_FIN,
  TCP_SYN,
  verifyTcpChecksum,
} from '../../../src/core/wire/segment.js';
import { finishTcpHeader, putSackBlocks, putTimestamps, writeTcpHeader } from '../../../src/core/wire/tcp.js';
import { encodePacket, naiveChecksum, type PacketModel } from '../../support/oracle-codec.js';

const V4 = { family: 4 as const, src: parseIp('10.0.1.1').bytes, dst: parseIp('10.0.1.2').bytes };
const V6 = { family: 6 as const, src: parseIp('fd00:1::1').bytes, dst: parseIp('fd00:1::2').bytes };

function packet(over: Partial<PacketModel> = {}): Uint8Array {
  return encodePacket({
    ...V4,
    ecn: 2,
    srcPort: 40_000,
    dstPort: 5000,
    seq: 7,
    ack: 9,
    flags: TCP_ACK,
    window: 500,
    options: new Uint8Array(0),
    payload: Uint8Array.of(1, 2, 3),
    ...over,
  });
}

function parse(bytes: Uint8Array, seg = new SegmentView()): SegmentView {
  const result = parseSegment(bytes, 0, bytes.length, 0, seg);
  if (result !== 'ok') throw new Error(result);
  return seg;
}

const verdict = (bytes: Uint8Array) => parseSegment(bytes, 0, bytes.length, 0, new SegmentView());

/** Changes bytes of an IPv4 packet and repairs the header checksum. */
function patched(bytes: Uint8Array, edits: Record<number, number>): Uint8Array {
  for (const [at, value] of Object.entries(edits)) bytes[Number(at)] = value;
  bytes.set([0, 0], 10);
  const sum = naiveChecksum(bytes.subarray(0, (bytes[0]! & 15) * 4));
  bytes.set([sum >> 8, sum & 0xff], 10);
  return bytes;
}

/** Puts extension headers in front of the TCP header of an IPv6 packet. */
function withExtensions(first: number, extensions: number[], edit?: (b: Uint8Array) => void): Uint8Array {
  const plain = packet(V6);
  const out = new Uint8Array(plain.length + extensions.length);
  out.set(plain.subarray(0, 40));
  out[6] = first;
  out.set(extensions, 40);
  out.set(plain.subarray(40), 40 + extensions.length);
  const length = out.length - 40;
  out.set([length >> 8, length & 0xff], 4);
  edit?.(out);
  return out;
}

test('a good segment of each family', (t) => {
  for (const family of [V4, V6]) {
    const bytes = packet(family);
    const seg = parse(bytes);
    t.is(seg.family, family.family);
    t.is(seg.ecn, 2);
    t.is(seg.ttl, 64);
    t.deepEqual([seg.srcPort, seg.dstPort, seg.seq, seg.ack, seg.window], [40_000, 5000, 7, 9, 500]);
    t.deepEqual([...bytes.subarray(seg.payloadOff, seg.payloadOff + seg.payloadLen)], [1, 2, 3]);
    t.true(verifyTcpChecksum(bytes, seg));
    bytes[seg.payloadOff]! ^= 0x10;
    t.false(verifyTcpChecksum(bytes, seg));
  }
});

test('link padding behind the packet is no payload', (t) => {
  const padded = new Uint8Array(60);
  padded.set(packet({ payload: new Uint8Array(0) }));
  t.is(parse(padded).payloadLen, 0);
});

test('named reasons: IPv4', (t) => {
  t.is(verdict(new Uint8Array(0)), 'truncated');
  t.is(verdict(packet().subarray(0, 19)), 'truncated');
  t.is(verdict(packet().subarray(0, 42)), 'truncated');
  t.is(verdict(patched(packet(), { 0: 0x55 })), 'not-ip');
  t.is(verdict(patched(packet(), { 0: 0x44 })), 'bad-ip-header');
  t.is(verdict(patched(packet(), { 3: 19 })), 'bad-ip-header');
  const wrongSum = packet();
  wrongSum[10]! ^= 1;
  t.is(verdict(wrongSum), 'bad-ip-checksum');
  t.is(verdict(patched(packet(), { 9: PROTO_UDP })), 'not-tcp');
  t.is(verdict(patched(packet(), { 6: 0x20 })), 'fragment');
  t.is(verdict(patched(packet(), { 7: 1 })), 'fragment');
  t.is(verdict(patched(packet(), { 3: 39 })), 'bad-tcp-header');
  t.is(verdict(patched(packet(), { 32: 0x40 })), 'bad-tcp-header');
  t.is(verdict(patched(packet(), { 32: 0x60 })), 'bad-tcp-header');
});

test('IPv4 options are stepped over', (t) => {
  const plain = packet();
  const bytes = new Uint8Array(plain.length + 4);
  bytes.set(plain.subarray(0, 20));
  bytes.set([1, 1, 1, 0], 20);
  bytes.set(plain.subarray(20), 24);
  const seg = parse(patched(bytes, { 0: 0x46, 3: bytes.length }));
  t.is(seg.l4Off, 24);
  t.true(verifyTcpChecksum(bytes, seg));
});

test('IPv6 extension headers are walked, and end', (t) => {
  const options = [0, 0, 1, 4, 0, 0, 0, 0];
  const chain = [60, ...options.slice(1), 43, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
  const seg = parse(withExtensions(0, chain));
  t.is(seg.protocol, PROTO_TCP);
  t.is(seg.l4Off, 64);
  t.true(verifyTcpChecksum(seg.buf, seg));

  const atomic = [6, 0, 0, 0, 0, 0, 0, 9];
  t.is(verdict(withExtensions(44, atomic)), 'ok', 'RFC 6946: an atomic fragment is a whole packet');
  t.is(verdict(withExtensions(44, [6, 0, 0, 1, 0, 0, 0, 9])), 'fragment');
  t.is(verdict(withExtensions(44, [6, 0, 0, 8, 0, 0, 0, 9])), 'fragment');
  t.is(verdict(withExtensions(44, [44, 0, 0, 0, 0, 0, 0, 9, 6, 0, 1, 0, 0, 0, 0, 9])), 'fragment');
  t.is(verdict(withExtensions(51, [6, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1])), 'ok', 'AH counts in words of 4');
  t.is(verdict(withExtensions(43, [6, 0, 0, 1, 0, 0, 0, 0])), 'bad-ip-header', 'segments left');
  t.is(
    verdict(withExtensions(60, [0, ...options.slice(1), 6, 0, 1, 4, 0, 0, 0, 0])),
    'bad-ip-header',
    'late hop-by-hop',
  );
  t.is(verdict(withExtensions(60, [6, 200, 1, 4, 0, 0, 0, 0])), 'bad-ip-header', 'longer than the packet');
  const chainOf = (n: number) => [
    ...new Array<number[]>(n - 1).fill([60, 0, 1, 4, 0, 0, 0, 0]).flat(),
    ...[6, 0, 1, 4, 0, 0, 0, 0],
  ];
  t.is(verdict(withExtensions(60, chainOf(8))), 'ok');
  t.is(verdict(withExtensions(60, chainOf(9))), 'bad-ip-header', 'more than anybody needs');
  t.is(verdict(withExtensions(59, [])), 'not-tcp');
  t.is(verdict(withExtensions(6, [], (b) => b.set([1, 0], 4))), 'truncated');
});

test('options count once, MSS and window scale on SYN only', (t) => {
  const options = Uint8Array.of(2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 10);
  const syn = parse(packet({ flags: TCP_SYN, options }));
  t.deepEqual([syn.mss, syn.wscale, syn.sackPermitted], [1460, 10, true]);
  t.deepEqual([syn.hasTs, syn.tsVal, syn.tsEcr], [true, 1, 2]);
  const ack = parse(packet({ options }), syn);
  t.deepEqual([ack.mss, ack.wscale, ack.sackPermitted, ack.hasTs], [-1, -1, false, true]);
  const twice = Uint8Array.of(8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 8, 10, 0, 0, 0, 3, 0, 0, 0, 4);
  t.is(parse(packet({ options: twice }), syn).tsVal, 1, 'the first counts');
  const bare = parse(packet(), syn);
  t.deepEqual([bare.hasTs, bare.sackCount, bare.mptcp.present], [false, 0, 0], 'nothing is left of the segment before');
});

test('a bad option length ends the walk and harms nothing before it (RFC 9293 MUST-7)', (t) => {
  for (const tail of [
    [5, 0],
    [5, 1],
    [5, 200, 0, 0],
    [30, 12, 0x70, 0],
  ]) {
    const seg = parse(packet({ options: Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, ...tail) }));
    t.true(seg.hasTs && seg.hasBadOptions, tail.join());
    t.is(seg.mptcp.present, 0);
  }
  t.true(parse(packet({ options: Uint8Array.of(254, 5, 0, 0) })).hasBadOptions, 'one byte too long');
  t.false(parse(packet({ options: Uint8Array.of(254, 4, 0, 0) })).hasBadOptions);
  const kindOnly = packet({ options: Uint8Array.of(1, 1, 1, 8) });
  t.true(parse(kindOnly).hasBadOptions);
  const behindEnd = parse(packet({ options: Uint8Array.of(0, 8, 10, 0) }));
  t.false(behindEnd.hasBadOptions || behindEnd.hasTs);
  const wrongSizes = parse(
    packet({ flags: TCP_SYN, options: Uint8Array.of(2, 3, 5, 3, 4, 1, 1, 4, 3, 0, 8, 4, 0, 0) }),
  );
  t.deepEqual([wrongSizes.mss, wrongSizes.wscale, wrongSizes.sackPermitted, wrongSizes.hasTs], [-1, -1, false, false]);
});

test('SACK blocks: one to four, as written', (t) => {
  const header = new Uint8Array(80);
  for (let count = 1; count <= 3; count++) {
    const left = [100, 300, 0xffff_fff0];
    const right = [200, 400, 16];
    let o = writeTcpHeader(header, 0, 1, 2, 3, 4, TCP_ACK, 5);
    o = putTimestamps(header, o, 6, 7);
    o = putSackBlocks(header, o, left, right, count);
    const length = finishTcpHeader(header, 0, o);
    t.is(length, 20 + 12 + 4 + 8 * count);
    const seg = parse(packet({ options: header.slice(20, length) }));
    t.is(seg.sackCount, count);
    t.deepEqual([...seg.sackLeft.subarray(0, count)], left.slice(0, count));
    t.deepEqual([...seg.sackRight.subarray(0, count)], right.slice(0, count));
  }
  const odd = parse(packet({ options: Uint8Array.of(5, 9, 0, 0, 0, 1, 0, 0, 0) }));
  t.is(odd.sackCount, 0);
});

test('the writers refuse what no packet can carry', (t) => {
  const out = new Uint8Array(100);
  const [a, b] = [parseIp('10.0.0.1'), parseIp('10.0.0.2')];
  const [c, d] = [parseIp('::1'), parseIp('::2')];
  t.is(writeIpHeader(out, 0, 4, a, b, maxIpPayloadBytes(4), PROTO_TCP, 0, 0), 20);
  t.is(writeIpHeader(out, 0, 6, c, d, maxIpPayloadBytes(6), PROTO_TCP, 0, 0), 40);
  t.throws(() => writeIpHeader(out, 0, 4, a, b, 65_516, PROTO_TCP, 0, 0), { instanceOf: RangeError });
  t.throws(() => writeIpHeader(out, 0, 6, c, d, 65_536, PROTO_TCP, 0, 0), { instanceOf: RangeError });
  t.throws(() => writeIpHeader(out, 0, 4, a, b, -1, PROTO_TCP, 0, 0), { instanceOf: RangeError });
  t.throws(() => writeIpHeader(out, 0, 4, a, b, Number.NaN, PROTO_TCP, 0, 0), { instanceOf: RangeError });
  t.throws(() => finishTcpHeader(out, 0, 61), { instanceOf: RangeError });
  t.is(finishTcpHeader(out, 0, 57), 60);
});

test('IP headers as written: DF, identification, ECN, flow label', (t) => {
  const out = new Uint8Array(60);
  const [a, b] = [parseIp('10.0.0.1'), parseIp('10.0.0.2')];
  writeIpHeader(out, 4, 4, a, b, 20, PROTO_TCP, 2, 0xbeef);
  t.deepEqual([...out.subarray(4, 14)], [0x45, 2, 0, 40, 0xbe, 0xef, 0x40, 0, 64, 6]);
  t.is(naiveChecksum(out.subarray(4, 24)), 0);
  const ip = new IpHeader();
  t.is(parseIpHeader(out, 4, 40, ip), 'ok');
  t.is(pseudoHeaderSumOf(ip), pseudoHeaderSum(a, b, PROTO_TCP, 20));

  const [c, d] = [parseIp('fd00::1'), parseIp('fd00::2')];
  writeIpHeader(out, 0, 6, c, d, 20, PROTO_TCP, 1, 0, 0xf_1234);
  t.deepEqual([...out.subarray(0, 8)], [0x60, 0x1f, 0x12, 0x34, 0, 20, 6, 64]);
  t.is(parseIpHeader(out, 0, 60, ip), 'ok');
  t.is(ip.ecn, 1);
  t.is(pseudoHeaderSumOf(ip), pseudoHeaderSum(c, d, PROTO_TCP, 20));
});

test('one line per segment', (t) => {
  const options = Uint8Array.of(2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 10, 30, 4, 1, 0x81);
  t.is(
    formatSegment(parse(packet({ flags: TCP_SYN, options, payload: new Uint8Array(0) }))),
    '10.0.1.1:40000 > 10.0.1.2:5000 [S] seq 7 ack 0 len 0 win 500 ' +
      '<mss 1460 sackOK ts 1:0 wscale 10> | MP_CAPABLE v1 flags=81',
  );
  const dss = Uint8Array.of(30, 20, 0x20, 0x15, 0, 0, 0, 9, 0, 0, 1, 0, 0, 0, 0, 1, 0, 4, 0xab, 0xcd);
  t.is(
    formatSegment(parse(packet({ ...V6, ecn: 3, flags: TCP_ACK | TCP_FIN, options: dss })), 5, 9),
    '[fd00:1::1]:40000 > [fd00:1::2]:5000 [F.] seq 2 ack 0 len 3 win 500 CE ' +
      '| DSS dack=00000009 dsn=00000100 ssn=1 dll=4 csum=abcd DATA_FIN',
  );
});
