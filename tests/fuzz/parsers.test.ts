/**
 * Hostile and random bytes into every parser of the wire: nothing throws, nothing loops, no byte outside the packet is
 * read, offsets stay inside. And round trips against the slow codec.
 */
import test from 'ava';
import fc from 'fast-check';
import { parseIp } from '../../src/core/base/ip.js';
import { formatSegment } from '../../src/core/wire/format.js';
import { IcmpErrorView, MAX_ICMP_ERROR_BYTES, parseIcmpError, writeIcmpError } from '../../src/core/wire/icmp.js';
import { IpHeader, parseIpHeader } from '../../src/core/wire/ip.js';
import { dssBytes, MPO, MptcpOptions, parseMptcpOption } from '../../src/core/wire/mptcp-options.js';
import { parseSegment, SegmentView, verifyTcpChecksum } from '../../src/core/wire/segment.js';
import { mptcpModel, packetModel } from '../support/arbitraries.js';
import { hex } from '../support/node-env.js';
import { encodeMptcp, encodePacket, type MptcpModel } from '../support/oracle-codec.js';
import { reencode, writeMptcp } from '../support/reencode.js';

const RUNS = { numRuns: 1500 };

/** Changes some bytes of a good packet and cuts or lengthens it. */
const mangledPacket = fc
  .tuple(
    packetModel,
    fc.array(fc.tuple(fc.nat(140), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
    fc.integer({ min: -60, max: 20 }),
  )
  .map(([model, edits, grow]) => {
    const good = encodePacket(model);
    const out = new Uint8Array(Math.max(0, good.length + grow));
    out.set(good.subarray(0, out.length));
    for (const [at, value] of edits) if (at < out.length) out[at] = value;
    return out;
  });

const anyPacket = fc.oneof(
  fc.uint8Array({ maxLength: 160 }),
  // The first nibble and the protocol field right, so that the parsers behind them get their share.
  fc.tuple(fc.constantFrom(4, 6), fc.uint8Array({ minLength: 40, maxLength: 160 })).map(([version, b]) => {
    b[0] = version === 4 ? 0x45 : 0x60;
    if (version === 4) b.set([b.length >> 8, b.length & 0xff, 0, 0, 0x40, 0, 64, b[9]! & 1 ? 6 : 1], 2);
    else b.set([(b.length - 40) >> 8, (b.length - 40) & 0xff, [6, 58, 0, 43, 44, 60, 51][b[6]! % 7]!], 4);
    if (version === 4) repairHeaderChecksum(b);
    return b;
  }),
  mangledPacket,
);

test('parseSegment: any bytes, never a throw, offsets inside', (t) => {
  const seg = new SegmentView();
  const seen = new Set<string>();
  fc.assert(
    fc.property(anyPacket, fc.nat(30), (packet, before) => {
      const buf = new Uint8Array(before + packet.length);
      buf.set(packet, before);
      const result = parseSegment(buf, before, packet.length, 0, seg);
      seen.add(result);
      if (result !== 'ok') return;
      const end = before + packet.length;
      if (!(seg.ipStart === before && seg.srcOff > before && seg.dstOff > seg.srcOff)) throw new Error('addresses');
      if (!(seg.l4Off >= before + 20 && seg.payloadOff >= seg.l4Off + 20)) throw new Error('header');
      if (!(seg.payloadLen >= 0 && seg.payloadOff + seg.payloadLen === seg.ipEnd)) throw new Error('payload');
      if (!(seg.ipEnd <= end && seg.sackCount <= 4)) throw new Error('end');
      verifyTcpChecksum(buf, seg);
      formatSegment(seg);
    }),
    RUNS,
  );
  t.deepEqual(
    ['ok', 'truncated', 'not-ip', 'bad-ip-header', 'bad-ip-checksum', 'not-tcp', 'bad-tcp-header', 'fragment'].filter(
      (r) => !seen.has(r),
    ),
    [],
    'the generator reaches every outcome',
  );
});

test('parseSegment reads nothing outside the packet', (t) => {
  const seg = new SegmentView();
  fc.assert(
    fc.property(anyPacket, (packet) => {
      const views = [0x00, 0xff, 0x1e].map((filler) => {
        const buf = new Uint8Array(packet.length + 160).fill(filler);
        buf.set(packet, 80);
        const result = parseSegment(buf, 80, packet.length, 0, seg);
        return result === 'ok'
          ? `${formatSegment(seg)} ${keysOf(seg)} ${seg.urgent} ${seg.ttl} ${verifyTcpChecksum(buf, seg)}`
          : result;
      });
      if (new Set(views).size !== 1) throw new Error(views.join('\n'));
    }),
    RUNS,
  );
  t.pass();
});

test('ICMP: any bytes, never a throw, quotes inside', (t) => {
  const ip = new IpHeader();
  const error = new IcmpErrorView();
  const out = new Uint8Array(MAX_ICMP_ERROR_BYTES);
  const sources = { 4: parseIp('192.0.2.1'), 6: parseIp('2001:db8::1') };
  let answered = 0;
  fc.assert(
    fc.property(anyPacket, (packet) => {
      if (parseIpHeader(packet, 0, packet.length, ip) !== 'ok') return;
      const result = parseIcmpError(ip, error);
      const addressBytes = error.family === 4 ? 4 : 16;
      if (result === 'ok' && error.quotedDstOff + addressBytes > ip.ipEnd) throw new Error('quote');
      const length = writeIcmpError(out, 0, 'too-big', 1280, sources[ip.family], ip);
      if (length > MAX_ICMP_ERROR_BYTES) throw new Error('length');
      if (length === 0) return;
      answered++;
      const back = new IpHeader();
      if (parseIpHeader(out, 0, length, back) !== 'ok') throw new Error('own header');
      const verdict = parseIcmpError(back, error);
      if (verdict !== 'ok' && verdict !== 'bad-icmp-quote') throw new Error(verdict);
    }),
    RUNS,
  );
  t.true(answered > 0);
});

test('MPTCP options: any bytes are taken or counted as skipped; what is taken survives a rewrite', (t) => {
  const subtypeAndBytes = fc.tuple(fc.integer({ min: 0, max: 10 }), fc.uint8Array({ minLength: 2, maxLength: 40 }));
  const first = new MptcpOptions();
  const second = new MptcpOptions();
  const out = new Uint8Array(64);
  let taken = 0;
  fc.assert(
    fc.property(subtypeAndBytes, ([subtype, bytes]) => {
      bytes[0] = 30;
      bytes[1] = bytes.length;
      if (bytes.length > 2)
        bytes[2] = (subtype << 4) | (bytes[2]! & (subtype === 0 ? 1 : 15)) | (subtype === 0 ? 1 : 0);
      first.clear();
      parseMptcpOption(bytes, 0, bytes.length, first);
      if ((first.present !== 0) === (first.skipped !== 0)) throw new Error('neither taken nor skipped');
      if (first.present === 0) return;
      taken++;
      const end = writeMptcp(first, subtype, out, 0);
      if (end !== bytes.length) throw new Error(`length ${end} of ${bytes.length}`);
      second.clear();
      parseMptcpOption(out, 0, end, second);
      const rewritten = writeMptcp(second, subtype, new Uint8Array(64), 0);
      if (rewritten !== end || first.present !== second.present) throw new Error('not stable');
    }),
    { numRuns: 6000 },
  );
  t.true(taken > 300, `${taken}`);
});

test('MPTCP options: our parser and writers agree with the slow codec', (t) => {
  const m = new MptcpOptions();
  const out = new Uint8Array(64);
  fc.assert(
    fc.property(mptcpModel, (model) => {
      const bytes = encodeMptcp(model);
      m.clear();
      parseMptcpOption(bytes, 0, bytes.length, m);
      if (m.skipped !== 0 || m.present !== 1 << model.subtype) throw new Error('not taken');
      checkFields(m, model);
      const end = writeMptcp(m, model.subtype, out, 0);
      if (hex(out.subarray(0, end)) !== hex(bytes)) throw new Error(`${hex(out.subarray(0, end))} != ${hex(bytes)}`);
      if (model.subtype === 2) {
        const expected = dssBytes(m.dataAckBytes, m.dsnBytes, m.dssChecksum >= 0);
        if (expected !== bytes.length) throw new Error('dssBytes');
      }
    }),
    { numRuns: 5000 },
  );
  t.pass();
});

test('packets: our parser and writers agree with the slow codec', (t) => {
  const seg = new SegmentView();
  fc.assert(
    fc.property(packetModel, (model) => {
      const packet = encodePacket(model);
      const result = parseSegment(packet, 0, packet.length, 1400, seg);
      if (result !== 'ok') throw new Error(result);
      if (!verifyTcpChecksum(packet, seg)) throw new Error('checksum');
      const same =
        seg.srcPort === model.srcPort &&
        seg.dstPort === model.dstPort &&
        seg.seq === model.seq &&
        seg.ack === model.ack &&
        seg.flags === model.flags &&
        seg.window === model.window &&
        seg.ecn === model.ecn &&
        seg.gsoSize === 1400 &&
        hex(packet.subarray(seg.payloadOff, seg.payloadOff + seg.payloadLen)) === hex(model.payload);
      if (!same) throw new Error(formatSegment(seg));
      // A subtype repeated in one segment is skipped, so only the others can be written again.
      if (seg.mptcp.skipped === 0 && hex(reencode(seg)) !== hex(packet)) throw new Error('bytes differ');
    }),
    RUNS,
  );
  t.pass();
});

function checkFields(m: MptcpOptions, model: MptcpModel): void {
  const u64 = (hi: number, lo: number) => (BigInt(hi) << 32n) | BigInt(lo);
  const expect = (isRight: boolean, what: string) => {
    if (!isRight) throw new Error(what);
  };
  if (model.subtype === 0) {
    expect(m.capableVersion === 1 && m.capableFlags === model.flags, 'capable');
    if (model.keys.length > 0) expect(u64(m.senderKeyHi, m.senderKeyLo) === model.keys[0], 'sender key');
    if (model.keys.length > 1) expect(u64(m.receiverKeyHi, m.receiverKeyLo) === model.keys[1], 'receiver key');
    expect(m.capableDll === (model.dll ?? 0) && m.capableChecksum === (model.checksum ?? -1), 'data');
  } else if (model.subtype === 2) {
    expect(m.dataAckBytes === (model.ack?.bytes ?? 0) && m.dsnBytes === (model.map?.dsn.bytes ?? 0), 'forms');
    if (model.ack) expect(u64(m.dataAckHi, m.dataAckLo) === model.ack.value, 'data ack');
    if (model.map) {
      expect(u64(m.dsnHi, m.dsnLo) === model.map.dsn.value, 'dsn');
      expect(m.ssn === model.map.ssn && m.dll === model.map.dll, 'map');
      expect(m.dssChecksum === (model.map.checksum ?? -1) && m.dataFin === model.fin, 'checksum, fin');
    } else {
      expect(!m.dataFin && m.dssChecksum === -1, 'no map');
    }
  } else if (model.subtype === 3) {
    const a = m.addAddrs[0]!;
    expect(a.echo === model.echo && a.addressId === model.id && a.port === (model.port ?? -1), 'add_addr');
    expect(hex(a.address.bytes) === hex(model.address), 'address');
    expect(hex(a.hmac) === (model.echo ? '' : hex(model.hmac)), 'hmac');
  } else if (model.subtype === 6) {
    expect(u64(m.failDsnHi, m.failDsnLo) === model.dsn && m.present === MPO.fail, 'fail');
  } else if (model.subtype === 7) {
    expect(u64(m.fastcloseKeyHi, m.fastcloseKeyLo) === model.key, 'fastclose');
  } else if (model.subtype === 8) {
    expect(m.tcprstFlags === model.flags && m.tcprstReason === model.reason, 'tcprst');
  }
}

function repairHeaderChecksum(b: Uint8Array): void {
  b[10] = 0;
  b[11] = 0;
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += b[i]! * 256 + b[i + 1]!;
  sum = (sum & 0xffff) + (sum >> 16);
  sum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
  b[10] = sum >> 8;
  b[11] = sum & 0xff;
}

/** What formatSegment does not show; each only where its option is present. */
function keysOf({ mptcp: o }: SegmentView): string {
  const keys: number[] = [];
  if (o.capableLength >= 12) keys.push(o.senderKeyHi, o.senderKeyLo);
  if (o.capableLength >= 20) keys.push(o.receiverKeyHi, o.receiverKeyLo);
  if ((o.present & MPO.fastclose) !== 0) keys.push(o.fastcloseKeyHi, o.fastcloseKeyLo);
  return keys.join();
}
