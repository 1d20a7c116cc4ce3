/** Captures of kernel peers: every segment parses and re-encodes; everything derived from keys reproduces. */
import test from 'ava';
import { ipFromBytes } from '../../src/core/base/ip.js';
import { dsnHi, dsnLo, relativeDsn, type U64, unwrap32 } from '../../src/core/base/seq.js';
import {
  addAddrHmac,
  deriveFromKey,
  dssChecksum,
  equalConstantTime,
  joinHmac,
  keyBytes,
  keyU64,
  verifyDssChecksum,
} from '../../src/core/mptcp/keys.js';
import { sumRange } from '../../src/core/wire/checksum.js';
import { MPO, MptcpOptions, parseMptcpOption } from '../../src/core/wire/mptcp-options.js';
import { parseSegment, SegmentView, TCP_SYN, verifyTcpChecksum } from '../../src/core/wire/segment.js';
import { hex, nodeEnv, unhex } from '../support/node-env.js';
import { reencode } from '../support/reencode.js';
import { type CaptureVectors, captureNames, type End, loadVectors, readCapture } from '../support/vectors.js';

const vectors = loadVectors();
/** TCP Fast Open (RFC 7413), which the core does not write. */
const TFO_OPTION = 34;

test('the captures are all there', (t) => {
  t.is(Object.keys(vectors).length, 48);
  t.is(captureNames().length, 67);
});

for (const name of captureNames()) {
  test(`${name}: every TCP packet parses and re-encodes byte for byte`, (t) => {
    const seg = new SegmentView();
    let segments = 0;
    for (const { ip } of readCapture(name)) {
      const result = parseSegment(ip, 0, ip.length, 0, seg);
      if (result === 'not-tcp') continue; // neighbour discovery
      if (result !== 'ok') {
        t.fail(result);
        return;
      }
      segments++;
      const where = `segment ${segments}`;
      t.true(verifyTcpChecksum(ip, seg), `${where}: checksum`);
      t.is(seg.mptcp.skipped, 0, where);
      t.false(seg.hasBadOptions, where);
      const foreign: number[] = [];
      t.is(hex(reencode(seg, foreign)), hex(ip.subarray(0, seg.ipEnd)), where);
      if (name !== '40-tfo') t.deepEqual(foreign, [], where);
      else t.true(foreign.every((kind) => kind === TFO_OPTION));
    }
    t.true(segments >= 4);
  });
}

test('keys: digest, token and IDSN of both ends', (t) => {
  let keys = 0;
  for (const v of Object.values(vectors)) {
    for (const end of ['A', 'B'] as const) {
      const key = v[`key${end}`];
      if (key === undefined) continue;
      keys++;
      t.is(hex(nodeEnv.sha256(unhex(key))), v[`sha256${end}`]!);
      const { token, idsn } = deriveFromKey(nodeEnv, unhex(key));
      t.is(hexU32(token), v[`token${end}`]!);
      t.is(hexU32(idsn.hi) + hexU32(idsn.lo), v[`idsn${end}`]!);
      const halves = keyU64(unhex(key));
      t.is(hex(keyBytes(halves.hi, halves.lo)), key);
    }
  }
  t.is(keys, 86);
});

test('MP_JOIN: token and both HMACs', (t) => {
  let joins = 0;
  for (const v of Object.values(vectors)) {
    for (const join of v.joins ?? []) {
      joins++;
      const responder = other(join.initiator);
      const keyI = unhex(v[`key${join.initiator}`]!);
      const keyR = unhex(v[`key${responder}`]!);
      const nonceI = Number.parseInt(join.nonceInitiator, 16);
      const nonceR = Number.parseInt(join.nonceResponder, 16);
      t.is(join.token, v[`token${responder}`]!);
      t.is(hex(joinHmac(nodeEnv, keyI, keyR, nonceI, nonceR)), join.hmacInitiatorFull);
      t.is(hex(joinHmac(nodeEnv, keyR, keyI, nonceR, nonceI)), join.hmacResponderFull);
    }
  }
  t.is(joins, 26);
});

test('MP_JOIN on the wire: token finds the responder, HMACs cut to 8 and 20 bytes verify', (t) => {
  let checked = 0;
  for (const name of captureNames().filter((n) => !n.endsWith('.delivered'))) {
    const v = vectors[name]!;
    /** By four-tuple, initiator first. */
    const joins = new Map<string, { responder: End; nonceI: number; nonceR: number }>();
    eachSegment(name, (seg) => {
      const m = seg.mptcp;
      if ((m.present & MPO.join) === 0) return;
      const { forward, backward } = tuple(seg);
      if (m.joinLength === 12) {
        const token = hexU32(m.joinToken);
        const responder = token === v.tokenA ? 'A' : 'B';
        t.is(token, v[`token${responder}`]!);
        joins.set(forward, { responder, nonceI: m.joinNonce, nonceR: 0 });
        return;
      }
      checked++;
      const join = joins.get(m.joinLength === 16 ? backward : forward)!;
      const keyR = unhex(v[`key${join.responder}`]!);
      const keyI = unhex(v[`key${other(join.responder)}`]!);
      if (m.joinLength === 16) join.nonceR = m.joinNonce;
      const hmac =
        m.joinLength === 16
          ? joinHmac(nodeEnv, keyR, keyI, join.nonceR, join.nonceI)
          : joinHmac(nodeEnv, keyI, keyR, join.nonceI, join.nonceR);
      const bytes = m.joinLength === 16 ? 8 : 20;
      const isGood = equalConstantTime(m.joinHmac, hmac, bytes);
      t.true(isGood, name);
      hmac[bytes - 1]! ^= 1;
      t.false(equalConstantTime(m.joinHmac, hmac, bytes));
    });
  }
  t.true(checked > 40, `${checked}`);
});

test('ADD_ADDR: HMAC over id, address, port', (t) => {
  let options = 0;
  for (const v of Object.values(vectors)) {
    for (const a of v.addAddr ?? []) {
      options++;
      const raw = unhex(a.option);
      const parsed = new MptcpOptions();
      parseMptcpOption(raw, 0, raw.length, parsed);
      const { addressId, address, port, hmac } = parsed.addAddrs[0]!;
      const own = unhex(v[`key${a.sender}`]!);
      const peer = unhex(v[`key${other(a.sender)}`]!);
      const computed = addAddrHmac(nodeEnv, own, peer, addressId, address, port);
      t.is(hex(computed), a.hmacFull.slice(-16));
      t.true(equalConstantTime(computed, hmac, 8));
    }
  }
  t.is(options, 11);
});

test('DSS checksums of vectors.json reproduce from the bytes in the captures', (t) => {
  let checked = 0;
  for (const [name, v] of Object.entries(vectors)) {
    if (v.dss === undefined) continue;
    const bytesAt = collectStreams(name, v);
    for (const d of v.dss) {
      const dsn = keyU64(unhex(d.dsn));
      const payload = bytesAt(dsn, d.dll - Number(d.fin));
      const isLong = d.payload.startsWith('sha256:');
      t.is(isLong ? `sha256:${hex(nodeEnv.sha256(payload))}` : hex(payload), d.payload, `${name} ${d.dsn}`);
      // Cut in odd places, as a send queue's slices may be.
      const cut = Math.min(payload.length, 101);
      const parts = [payload.subarray(0, cut), payload.subarray(cut)];
      const computed = dssChecksum(dsn.hi, dsn.lo, d.ssn, d.dll, parts, 0, payload.length);
      t.is(computed.toString(16).padStart(4, '0'), d.checksum, `${name} ${d.dsn}`);
      const sum = sumRange(payload, 0, payload.length);
      t.true(verifyDssChecksum(dsn.hi, dsn.lo, d.ssn, d.dll, sum, computed));
      t.false(verifyDssChecksum(dsn.hi, dsn.lo, d.ssn, d.dll, sum, computed ^ 0x0100));
      checked++;
    }
  }
  t.is(checked, 26);
});

test('other options are recognised: MP_FAIL, MP_FASTCLOSE, MP_TCPRST', (t) => {
  let seen = 0;
  for (const v of Object.values(vectors)) {
    for (const o of v.other ?? []) {
      const m = new MptcpOptions();
      const raw = unhex(o.mpFail ?? o.fastclose ?? o.tcpRst ?? '');
      if (raw.length === 0) continue;
      seen++;
      parseMptcpOption(raw, 0, raw.length, m);
      if (o.mpFail) t.is(hexU32(m.failDsnHi) + hexU32(m.failDsnLo), hex(raw.subarray(4)));
      // MP_FASTCLOSE carries the key of its receiver.
      if (o.fastclose) {
        t.is(hexU32(m.fastcloseKeyHi) + hexU32(m.fastcloseKeyLo), v[`key${other(o.from!)}`]!);
      }
      if (o.tcpRst) t.is(m.tcprstReason, raw[3]!);
    }
  }
  t.is(seen, 20);
});

test('worked vectors of fixed keys', (t) => {
  const keyA = unhex('0102030405060708');
  const keyB = unhex('1112131415161718');
  const a = deriveFromKey(nodeEnv, keyA);
  const b = deriveFromKey(nodeEnv, keyB);
  t.is(a.token, 0x66840dda);
  t.deepEqual(a.idsn, { hi: 0xf5a101d3, lo: 0xd29d6f72 });
  t.is(b.token, 0xccad45ac);
  t.deepEqual(b.idsn, { hi: 0x535beea3, lo: 0x8e087c8e });
  const hmacA = joinHmac(nodeEnv, keyA, keyB, 0x01020304, 0xa1a2a3a4);
  const hmacB = joinHmac(nodeEnv, keyB, keyA, 0xa1a2a3a4, 0x01020304);
  t.is(hex(hmacA), '4674dd2b4aff76dc53ce81830dd7d03e3d7ae567236276046e28ee8035a0ea80');
  t.is(hex(hmacB), '9e8949cb56af505acd37031df1f2d82edce7c5d815d7f54208e1e1f8e18af506');
  const address = ipFromBytes(Uint8Array.of(192, 0, 2, 33), 0, 4);
  t.is(hex(addAddrHmac(nodeEnv, keyA, keyB, 5, address, -1)), 'ef02ed629a7eaad1');
  t.is(hex(addAddrHmac(nodeEnv, keyA, keyB, 5, address, 8443)), '9bc6382ab429105c');
});

function eachSegment(name: string, visit: (seg: SegmentView) => void): void {
  const seg = new SegmentView();
  for (const { ip } of readCapture(name)) if (parseSegment(ip, 0, ip.length, 0, seg) === 'ok') visit(seg);
}

/** Looks up bytes of either sender's data stream by DSN, put together from all subflows of a capture. */
function collectStreams(name: string, v: CaptureVectors): (dsn: U64, lengthBytes: number) => Uint8Array {
  const idsns = [keyU64(unhex(v.idsnA!)), keyU64(unhex(v.idsnB!))];
  const streams = idsns.map(() => new Uint8Array(1 << 20));
  const locate = (dsn: U64) => {
    const relative = idsns.map((idsn) => relativeDsn(dsn.hi, dsn.lo, idsn));
    const sender = relative.findIndex((rel) => rel < 1 << 20);
    return { stream: streams[sender]!, rel: relative[sender]! };
  };
  /** By flow direction: initial sequence number, and the mapping that is valid. */
  const flows = new Map<string, { isn: number; dsn: U64; ssn: number; bytes: number }>();
  eachSegment(name, (seg) => {
    const key = tuple(seg).forward;
    if ((seg.flags & TCP_SYN) !== 0) flows.set(key, { isn: seg.seq, dsn: { hi: 0, lo: 0 }, ssn: 0, bytes: 0 });
    const flow = flows.get(key)!;
    const m = seg.mptcp;
    if (m.capableLength >= 22) {
      const { hi, lo } = idsns[0]!;
      Object.assign(flow, { dsn: { hi: dsnHi(1, { hi, lo }), lo: dsnLo(1, { hi, lo }) }, ssn: 1, bytes: m.capableDll });
    } else if (m.dsnBytes === 8 && m.dll > Number(m.dataFin)) {
      const bytes = m.dll - Number(m.dataFin);
      Object.assign(flow, { dsn: { hi: m.dsnHi, lo: m.dsnLo }, ssn: m.ssn, bytes });
    }
    const at = unwrap32(seg.seq, flow.isn, flow.ssn) - flow.ssn;
    if (seg.payloadLen === 0 || at < 0 || at + seg.payloadLen > flow.bytes) return;
    const { stream, rel } = locate(flow.dsn);
    stream.set(seg.buf.subarray(seg.payloadOff, seg.payloadOff + seg.payloadLen), rel + at);
  });
  return (dsn, lengthBytes) => {
    const { stream, rel } = locate(dsn);
    return stream.subarray(rel, rel + lengthBytes);
  };
}

function tuple(seg: SegmentView): { forward: string; backward: string } {
  const src = `${ipFromBytes(seg.buf, seg.srcOff, seg.family).text}:${seg.srcPort}`;
  const dst = `${ipFromBytes(seg.buf, seg.dstOff, seg.family).text}:${seg.dstPort}`;
  return { forward: `${src}>${dst}`, backward: `${dst}>${src}` };
}

function other(end: End): End {
  return end === 'A' ? 'B' : 'A';
}

function hexU32(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0');
}
