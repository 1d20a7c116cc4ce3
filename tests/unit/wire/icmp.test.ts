import test from 'ava';
import { ipFromBytes, parseIp } from '../../../src/core/base/ip.js';
import {
  type IcmpErrorKind,
  IcmpErrorView,
  MAX_ICMP_ERROR_BYTES,
  mayAnswerWithIcmp,
  parseIcmpError,
  writeIcmpError,
} from '../../../src/core/wire/icmp.js';
import {
  IpHeader,
  PROTO_ICMP,
  PROTO_ICMPV6,
  PROTO_UDP,
  parseIpHeader,
  writeIpHeader,
} from '../../../src/core/wire/ip.js';
import { TCP_ACK } from '../../../src/core/wire/segment.js';
import { encodePacket, naiveChecksum } from '../../support/oracle-codec.js';

const HOSTS = {
  4: { app: parseIp('10.9.0.2'), far: parseIp('192.0.2.7'), router: parseIp('10.9.0.1') },
  6: { app: parseIp('fd09::2'), far: parseIp('2001:db8::7'), router: parseIp('fd09::1') },
};

function tcpPacket(family: 4 | 6, payloadBytes: number): Uint8Array {
  return encodePacket({
    family,
    src: HOSTS[family].app.bytes,
    dst: HOSTS[family].far.bytes,
    ecn: 0,
    srcPort: 41_000,
    dstPort: 443,
    seq: 0xdead_beef,
    ack: 1,
    flags: TCP_ACK,
    window: 1,
    options: new Uint8Array(0),
    payload: new Uint8Array(payloadBytes).fill(0x5a),
  });
}

function headerOf(packet: Uint8Array): IpHeader {
  const ip = new IpHeader();
  const result = parseIpHeader(packet, 0, packet.length, ip);
  if (result !== 'ok') throw new Error(result);
  return ip;
}

function answer(kind: IcmpErrorKind, family: 4 | 6, mtuBytes = 0, payloadBytes = 2000): Uint8Array {
  const out = new Uint8Array(MAX_ICMP_ERROR_BYTES + 8).fill(0xee);
  const invoking = headerOf(tcpPacket(family, payloadBytes));
  const length = writeIcmpError(out, 8, kind, mtuBytes, HOSTS[family].router, invoking);
  return out.slice(8, 8 + length);
}

test('what is written is read again, with the quoted connection', (t) => {
  const cases: [IcmpErrorKind, 4 | 6, number, number, string][] = [
    ['no-route', 4, 3, 0, 'soft'],
    ['host-unreachable', 4, 3, 1, 'soft'],
    ['port-unreachable', 4, 3, 3, 'hard'],
    ['prohibited', 4, 3, 13, 'hard'],
    ['too-big', 4, 3, 4, 'too-big'],
    ['ttl-exceeded', 4, 11, 0, 'soft'],
    ['no-route', 6, 1, 0, 'soft'],
    ['host-unreachable', 6, 1, 3, 'soft'],
    ['port-unreachable', 6, 1, 4, 'hard'],
    ['prohibited', 6, 1, 1, 'hard'],
    ['too-big', 6, 2, 0, 'too-big'],
    ['ttl-exceeded', 6, 3, 0, 'soft'],
  ];
  for (const [kind, family, type, code, errorClass] of cases) {
    const packet = answer(kind, family, 1400);
    const ip = headerOf(packet);
    const e = new IcmpErrorView();
    t.is(parseIcmpError(ip, e), 'ok', kind);
    t.is(`${e.type} ${e.code} ${e.errorClass}`, `${type} ${code} ${errorClass}`);
    t.is(e.mtuBytes, kind === 'too-big' ? 1400 : 0);
    const { app, far, router } = HOSTS[family];
    t.is(ipFromBytes(packet, ip.srcOff, family).text, router.text);
    t.is(ipFromBytes(packet, ip.dstOff, family).text, app.text);
    t.is(ipFromBytes(packet, e.quotedSrcOff, family).text, app.text);
    t.is(ipFromBytes(packet, e.quotedDstOff, family).text, far.text);
    t.deepEqual([e.quotedSrcPort, e.quotedDstPort, e.quotedSeq], [41_000, 443, 0xdead_beef]);
    t.is(packet.length, family === 4 ? 576 : 1280, 'as much of the packet as may be quoted');
  }
});

test('hard, soft and too-big: every code (RFC 1122 4.2.3.9, RFC 5461, RFC 4443)', (t) => {
  const e = new IcmpErrorView();
  const classOf = (family: 4 | 6, type: number, code: number) => {
    const icmpOff = family === 4 ? 20 : 40;
    const result = parseIcmpError(
      cut(family, 8 + icmpOff + 8, (b) => b.set([type, code], icmpOff)),
      e,
    );
    return result === 'ok' ? e.errorClass[0] : result;
  };
  const codes = (family: 4 | 6, type: number, count: number) =>
    Array.from({ length: count }, (_, code) => classOf(family, type, code)).join('');
  t.is(codes(4, 3, 17), 'sshhtshhhhhsshhhs');
  t.is(codes(4, 11, 2), 'ss');
  t.is(codes(4, 12, 3), 'sss');
  t.is(codes(6, 1, 8), 'shsshhhs');
  t.is(codes(6, 2, 1), 't');
  t.is(codes(6, 3, 2), 'ss');
  t.is(codes(6, 4, 3), 'shs');
  t.is(classOf(4, 4, 0), 'not-icmp-error', 'source quench is obsolete (RFC 6633)');
  t.is(classOf(4, 5, 0), 'not-icmp-error', 'redirect');
  t.is(classOf(6, 137, 0), 'not-icmp-error', 'redirect');
});

test('a short packet is quoted whole; checksums by an independent sum', (t) => {
  const v4 = answer('port-unreachable', 4, 0, 5);
  t.is(v4.length, 20 + 8 + 45);
  t.is(naiveChecksum(v4.subarray(20)), 0);
  t.is(naiveChecksum(v4.subarray(0, 20)), 0);
  const v6 = answer('port-unreachable', 6, 0, 5);
  const pseudo = new Uint8Array(40 + v6.length - 40);
  pseudo.set(v6.subarray(8, 40));
  pseudo.set([0, 0, 0, v6.length - 40, 0, 0, 0, 58], 32);
  pseudo.set(v6.subarray(40), 40);
  t.is(naiveChecksum(pseudo), 0);
});

test('ICMPv6 MTU is 32 bits wide, ICMP saturates at 16', (t) => {
  const e = new IcmpErrorView();
  parseIcmpError(headerOf(answer('too-big', 6, 70_000)), e);
  t.is(e.mtuBytes, 70_000);
  parseIcmpError(headerOf(answer('too-big', 4, 70_000)), e);
  t.is(e.mtuBytes, 65_535);
  parseIcmpError(headerOf(answer('too-big', 4, 0)), e);
  t.is(e.mtuBytes, 0, 'a router that does not know RFC 1191');
});

test('named reasons', (t) => {
  const e = new IcmpErrorView();
  t.is(parseIcmpError(headerOf(tcpPacket(4, 0)), e), 'not-icmp-error');
  for (const family of [4, 6] as const) {
    const icmpOff = family === 4 ? 20 : 40;
    const echo = answer('no-route', family);
    echo[icmpOff] = family === 4 ? 8 : 128;
    t.is(parseIcmpError(headerOf(echo), e), 'not-icmp-error');
    const damaged = answer('no-route', family);
    damaged[damaged.length - 1]! ^= 1;
    t.is(parseIcmpError(headerOf(damaged), e), 'bad-icmp-checksum');
    t.is(parseIcmpError(cut(family, 7), e), 'icmp-truncated');
    t.is(parseIcmpError(cut(family, 8), e), 'bad-icmp-quote');
    t.is(
      parseIcmpError(cut(family, 8 + icmpOff + 7), e),
      'bad-icmp-quote',
      'one byte short of ports and sequence number',
    );
    t.is(parseIcmpError(cut(family, 8 + icmpOff + 8), e), 'ok', 'RFC 792 promises no more than 8');
  }
  t.is(
    parseIcmpError(
      cut(4, 36, (b) => b.set([0x60], 28)),
      e,
    ),
    'bad-icmp-quote',
    'another family',
  );
  t.is(
    parseIcmpError(
      cut(4, 36, (b) => b.set([0, 9], 34)),
      e,
    ),
    'bad-icmp-quote',
    'a later fragment',
  );
  t.is(
    parseIcmpError(
      cut(4, 36, (b) => b.set([47], 37)),
      e,
    ),
    'bad-icmp-quote',
    'no ports',
  );
});

test('UDP quotes have ports and no sequence number', (t) => {
  const e = new IcmpErrorView();
  t.is(
    parseIcmpError(
      cut(4, 36, (b) => b.set([PROTO_UDP], 37)),
      e,
    ),
    'ok',
  );
  t.deepEqual([e.quotedProtocol, e.quotedSrcPort, e.quotedDstPort, e.quotedSeq], [PROTO_UDP, 41_000, 443, 0]);
});

test('no error about errors, later fragments, multicast or nobody (RFC 1122 3.2.2, RFC 4443 2.4)', (t) => {
  for (const family of [4, 6] as const) {
    const good = tcpPacket(family, 5);
    t.true(mayAnswerWithIcmp(headerOf(good), 'no-route'));
    const error = headerOf(answer('no-route', family));
    t.false(mayAnswerWithIcmp(error, 'no-route'));
    t.is(writeIcmpError(new Uint8Array(1280), 0, 'no-route', 0, HOSTS[family].router, error), 0);
    const group = parseIp(family === 4 ? '224.0.0.1' : 'ff02::1');
    const nobody = parseIp(family === 4 ? '0.0.0.0' : '::');
    const { app, far } = HOSTS[family];
    for (const [src, dst, kind, may] of [
      [app, group, 'no-route', false],
      [app, group, 'too-big', family === 6],
      [group, far, 'no-route', false],
      [nobody, far, 'no-route', false],
    ] as const) {
      const packet = new Uint8Array(60);
      const headerBytes = writeIpHeader(packet, 0, family, src, dst, 8, PROTO_UDP, 0, 0);
      t.is(mayAnswerWithIcmp(headerOf(packet.subarray(0, headerBytes + 8)), kind), may, `${src.text} ${dst.text}`);
    }
  }
  const later = headerOf(tcpPacket(4, 5));
  later.fragmentOffset = 8;
  t.false(mayAnswerWithIcmp(later, 'no-route'));
  t.is(writeIcmpError(new Uint8Array(1280), 0, 'no-route', 0, HOSTS[6].router, headerOf(tcpPacket(4, 5))), 0);
});

/** An error cut to `icmpBytes` by its sender: lengths and checksums are right again. `edit` comes before. */
function cut(family: 4 | 6, icmpBytes: number, edit?: (b: Uint8Array) => void): IpHeader {
  const packet = answer('port-unreachable', family);
  edit?.(packet);
  const { app, router } = HOSTS[family];
  const out = new Uint8Array(1400);
  const start = writeIpHeader(out, 0, family, router, app, icmpBytes, family === 4 ? PROTO_ICMP : PROTO_ICMPV6, 0, 0);
  out.set(packet.subarray(start, start + icmpBytes), start);
  if (icmpBytes >= 4) {
    out.set([0, 0], start + 2);
    const pseudo = new Uint8Array(40 + icmpBytes);
    if (family === 6) {
      pseudo.set(out.subarray(8, 40));
      pseudo.set([0, 0, icmpBytes >> 8, icmpBytes & 0xff, 0, 0, 0, 58], 32);
    }
    pseudo.set(out.subarray(start, start + icmpBytes), 40);
    const sum = naiveChecksum(pseudo);
    out.set([sum >> 8, sum & 0xff], start + 2);
  }
  return headerOf(out.subarray(0, start + icmpBytes));
}
