import test from 'ava';
import fc from 'fast-check';
import { parseIp } from '../../../src/core/base/ip.js';
import { getU16, getU32, putU16 } from '../../../src/core/base/wire-int.js';
import { CheckedPacket, type CheckReason, checkInner, MIN_GSO_BYTES } from '../../../src/core/lanes/inner-check.js';
import { finishL4Checksum, flowHash, markCe, PROTO_FRAGMENT } from '../../../src/core/lanes/inner-packet.js';
import { dropFirstSegment, rewriteHeaders } from '../../../src/core/lanes/super-packet.js';
import { bytes, naiveChecksum, ping, tcp, udp, V4_DST, V4_SRC, V6_DST, V6_SRC, verifies, view } from './packets.js';

const MTU = 1500;
const rule = { field: 'source' as const, addresses: [parseIp(V4_SRC), parseIp(V6_SRC)] };

function check(packet: Uint8Array, gsoSize: number, length = packet.length): CheckReason | null {
  return checkInner(packet, 0, Math.min(packet.length, length), length, gsoSize, rule, MTU, new CheckedPacket());
}

test('accepts what a client may send', (t) => {
  for (const v6 of [false, true]) {
    const addresses = v6 ? { src: V6_SRC, dst: V6_DST } : {};
    t.is(check(tcp({ ...addresses, payload: bytes(1000) }), -1), null);
    t.is(check(tcp({ ...addresses, payload: bytes(1000) }), 0), null);
    t.is(check(tcp({ ...addresses, payload: bytes(30_000) }), 1400), null);
    t.is(check(udp(bytes(500), addresses), 0), null);
  }
  t.is(check(ping(), -1), null);
});

test('hostile packets are refused, each with its reason', (t) => {
  const big = tcp({ payload: bytes(30_000) });
  const withBytes = (packet: Uint8Array, ...changes: [number, number][]) => {
    const copy = packet.slice();
    for (const [at, value] of changes) copy[at] = value;
    return copy;
  };
  const cases: [string, Uint8Array, number, CheckReason][] = [
    ['a source that is not assigned', tcp({ src: '10.7.0.3', payload: bytes(10) }), -1, 'inner_source'],
    [
      'an IPv6 source that is not assigned',
      tcp({ src: 'fd00::3', dst: V6_DST, payload: bytes(10) }),
      0,
      'inner_source',
    ],
    ['gso_size below 500', big, MIN_GSO_BYTES - 1, 'super_gso_size'],
    ['gso_size above the MTU', big, MTU - 51, 'super_gso_size'],
    ['UDP as super-packet', udp(bytes(3000)), 1400, 'super_not_tcp'],
    ['ICMP as super-packet', ping(3000), 1400, 'super_not_tcp'],
    ['ICMP with an unfinished checksum', ping(), 0, 'inner_not_offloadable'],
    ['SYN in a super-packet', tcp({ flags: 0x02, payload: bytes(3000) }), 1400, 'super_flags'],
    ['RST in a super-packet', tcp({ flags: 0x14, payload: bytes(3000) }), 1400, 'super_flags'],
    ['longer than the MTU without gso_size', big, 0, 'inner_mtu'],
    ['longer than the MTU in context 0', big, -1, 'inner_mtu'],
    ['version 5', withBytes(tcp({ payload: bytes(10) }), [0, 0x55]), -1, 'inner_version'],
    ['header length 16', withBytes(tcp({ payload: bytes(10) }), [0, 0x44]), -1, 'inner_header_length'],
    ['total length too long', withBytes(tcp({ payload: bytes(10) }), [3, 99]), -1, 'inner_total_length'],
    ['TCP data offset 4', withBytes(big, [32, 0x40]), 1400, 'super_not_tcp'],
    [
      'TCP data offset behind the end',
      withBytes(tcp({ payload: bytes(4), optionBytes: 0 }), [32, 0xf0]),
      0,
      'inner_not_offloadable',
    ],
    ['UDP length wrong', withBytes(udp(bytes(20)), [25, 99]), 0, 'inner_not_offloadable'],
    ['a fragment as super-packet', withBytes(big, [6, 0x20]), 1400, 'super_not_tcp'],
    ['a later fragment with an unfinished checksum', withBytes(udp(bytes(20)), [7, 5]), 0, 'inner_not_offloadable'],
    ['nothing', new Uint8Array(0), -1, 'inner_short'],
    ['half an IPv6 header', withBytes(new Uint8Array(30), [0, 0x60]), -1, 'inner_short'],
  ];
  for (const [name, packet, gsoSize, reason] of cases) t.is(check(packet, gsoSize), reason, name);
  t.is(check(ping(), -1, 90), 'inner_total_length');
});

test('a client checks the destination instead', (t) => {
  const out = new CheckedPacket();
  const mine = { field: 'destination' as const, addresses: [parseIp(V4_DST)] };
  const packet = tcp({ payload: bytes(10) });
  t.is(checkInner(packet, 0, packet.length, packet.length, -1, mine, MTU, out), null);
  const other = tcp({ dst: '192.0.2.10', payload: bytes(10) });
  t.is(checkInner(other, 0, other.length, other.length, -1, mine, MTU, out), 'inner_destination');
});

test('random bytes never throw and never pass with a foreign source', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: -1, max: 2000 }), (b, gso) => {
      const reason = check(b.slice(), gso);
      if (reason === null) t.is(view(b).family === 4 ? b.slice(12, 16).join('.') : '', V4_SRC);
      else t.is(typeof reason, 'string');
    }),
    { numRuns: 500 },
  );
});

test('context 2: the pseudo-header sum is put in, and finishing it gives the right checksum', (t) => {
  for (const packet of [
    tcp({ payload: bytes(999) }),
    tcp({ src: V6_SRC, dst: V6_DST, payload: bytes(1200) }),
    udp(bytes(333)),
    udp(bytes(12), { src: V6_SRC, dst: V6_DST }),
  ]) {
    const v = view(packet);
    const at = v.l4Offset + (v.protocol === 6 ? 16 : 6);
    const right = getU16(packet, at);
    putU16(packet, at, 0xbeef);
    const out = new CheckedPacket();
    t.is(checkInner(packet, 0, packet.length, packet.length, 0, rule, MTU, out), null);
    t.is(out.csumOffset, v.protocol === 6 ? 16 : 6);
    // What hardware does with NEEDS_CSUM: sum from the L4 header on, the field included.
    t.is(naiveChecksum(packet.subarray(v.l4Offset)), right);
    t.true(verifies(finish(packet)));
  }
});

test('context 0 leaves every byte alone', (t) => {
  const packet = udp(bytes(100));
  putU16(packet, 26, 0x1234);
  const before = packet.slice();
  t.is(check(packet, -1), null);
  t.deepEqual(packet, before);
});

test('a super-packet of one segment becomes an ordinary packet', (t) => {
  const out = new CheckedPacket();
  const packet = tcp({ payload: bytes(900) });
  t.is(checkInner(packet, 0, packet.length, packet.length, 1000, rule, MTU, out), null);
  t.is(out.gsoSize, 0);
});

test('cut pieces are what TSO would have made of the parts', (t) => {
  for (const addresses of [{}, { src: V6_SRC, dst: V6_DST }]) {
    fc.assert(
      fc.property(fc.integer({ min: 2000, max: 40_000 }), fc.integer({ min: 1, max: 9 }), (payloadBytes, segments) => {
        const gso = 1000;
        const flags = 0x10 | 0x08 | 0x01 | 0x80;
        const payload = bytes(payloadBytes);
        const whole = tcp({ ...addresses, payload, flags, seq: 0xffff_f000, id: 65_530 });
        const v = view(whole);
        const piece = gso * segments;
        for (let from = 0; from < payloadBytes; from += piece) {
          const count = Math.min(piece, payloadBytes - from);
          const out = new Uint8Array(v.headerBytes + count);
          out.set(whole.subarray(0, v.headerBytes));
          out.set(payload.subarray(from, from + count), v.headerBytes);
          rewriteHeaders(out, 0, v, from, count, from / gso);
          const isLast = from + count === payloadBytes;
          const expected = tcp({
            ...addresses,
            payload: payload.slice(from, from + count),
            seq: (0xffff_f000 + from) % 2 ** 32,
            id: (65_530 + from / gso) & 0xffff,
            flags: 0x10 | (isLast ? 0x09 : 0) | (from === 0 ? 0x80 : 0),
          });
          t.deepEqual(finish(out), expected);
        }
      }),
      { numRuns: 20 },
    );
  }
});

test('dropping the first segment leaves the rest, whole and in place', (t) => {
  const payload = bytes(5000);
  const packet = tcp({ payload, seq: 4_294_967_000, flags: 0x90 });
  const v = view(packet);
  dropFirstSegment(packet, 0, v, 1400);
  const rest = packet.subarray(1400);
  t.is(getU32(rest, 24), (4_294_967_000 + 1400) % 2 ** 32);
  t.is(v.totalBytes, rest.length);
  t.deepEqual(finish(rest.slice()), tcp({ payload: payload.slice(1400), seq: 1104, flags: 0x10, id: 2 }));
});

test('CE is set where ECN was offered, and only there', (t) => {
  for (const ecn of [1, 2]) {
    const packet = tcp({ payload: bytes(100), ecn });
    t.true(markCe(packet, 0));
    t.is(packet[1]! & 3, 3);
    t.true(verifies(packet));
    const six = tcp({ src: V6_SRC, dst: V6_DST, payload: bytes(100), ecn });
    t.true(markCe(six, 0));
    t.is((six[1]! >> 4) & 3, 3);
  }
  const packet = tcp({ payload: bytes(100) });
  const before = packet.slice();
  t.false(markCe(packet, 0));
  t.deepEqual(packet, before);
});

test('IPv6 extension headers: walked, bounded, and no ports behind a later fragment', (t) => {
  const plain = udp(bytes(20), { src: V6_SRC, dst: V6_DST });
  const extended = new Uint8Array(plain.length + 16);
  extended.set(plain.subarray(0, 40));
  extended[6] = 60;
  extended[40] = 44;
  extended[48] = 17;
  extended.set(plain.subarray(40), 56);
  putU16(extended, 4, extended.length - 40);
  let v = view(extended);
  t.true(v.isFragment);
  t.is(v.protocol, 17);
  t.is(v.dstPort, 6000);
  putU16(extended, 50, 8);
  v = view(extended);
  t.is(v.protocol, PROTO_FRAGMENT);
  t.false(v.hasPorts);
  extended[41] = 200;
  t.is(check(extended, -1), 'inner_extension_headers');
});

test('the flow hash tells ports apart, but not the fragments of one datagram', (t) => {
  const hash = (p: Uint8Array) => flowHash(p, 0, view(p), 42);
  t.not(hash(udp(bytes(1), { srcPort: 1 })), hash(udp(bytes(1), { srcPort: 2 })));
  t.is(hash(udp(bytes(9), { srcPort: 1 })), hash(udp(bytes(1), { srcPort: 1 })));
  const first = udp(bytes(16));
  const later = first.slice();
  first[6] = 0x20;
  later[7] = 3;
  t.is(hash(first), hash(later));
});

function finish(packet: Uint8Array): Uint8Array {
  finishL4Checksum(packet, 0, view(packet));
  return packet;
}
