/**
 * A capture of two kernels as one end lived it: what that end sent, and what reached it, in the order of time, with every
 * number relative (sequence numbers to the ISN, data numbers to the IDSN) and subflows numbered by their first SYN. Packets
 * that a stack under test sends are read in the same terms, so that the two can be compared.
 */
import type { IpAddress } from '../../src/core/base/ip.js';
import { ipFromBytes } from '../../src/core/base/ip.js';
import { relativeDsn, type U64, unwrap32 } from '../../src/core/base/seq.js';
import { deriveFromKey, keyBytes } from '../../src/core/mptcp/keys.js';
import { CAPABLE_ACK_BYTES, CAPABLE_SYNACK_BYTES, MPO, type MptcpOptions } from '../../src/core/wire/mptcp-options.js';
import { parseSegment, SegmentView, TCP_ACK, TCP_RST, TCP_SYN } from '../../src/core/wire/segment.js';
import { OPT_EOL, OPT_FAST_OPEN, OPT_NOP, TCP_HEADER_BYTES } from '../../src/core/wire/tcp.js';
import { hex, nodeEnv } from './node-env.js';
import { captureNames, type End, readCapture } from './vectors.js';

export interface Mapping {
  /** Relative. */
  readonly dsn: number;
  readonly ssn: number;
  /** Without a DATA_FIN; infinite for an infinite mapping. */
  readonly lengthBytes: number;
  readonly dll: number;
  /** As on the wire; -1: none. */
  readonly checksum: number;
}

/** An option beside the data flow: which one, and what it says. */
export interface Signal {
  readonly what: string;
  readonly value: string;
}

/** One segment, decoded. */
export interface Segment {
  readonly timeUs: number;
  readonly subflow: number;
  /** Relative to the sender's, and to the receiver's ISN. */
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly window: number;
  /** Options of a SYN, but for MPTCP; and the Fast Open option as it stands there, empty: none. */
  readonly synOptions: string;
  readonly fastOpen: Uint8Array;
  readonly tsVal: number;
  readonly payload: Uint8Array;
  /** MP_CAPABLE or MP_JOIN, all fields, as text; empty: none. */
  readonly handshake: string;
  readonly nonce: number;
  /** Relative; -1: none. */
  readonly dataAck: number;
  readonly mapping: Mapping | null;
  /** Relative DSN of a DATA_FIN, or -1. */
  readonly dataFin: number;
  readonly isInfinite: boolean;
  /** ADD_ADDR, REMOVE_ADDR, MP_PRIO, MP_FAIL, MP_FASTCLOSE. */
  readonly signals: readonly Signal[];
  /** MP_TCPRST; empty: none. */
  readonly resetReason: string;
  readonly addAddrs: MptcpOptions['addAddrs'];
  readonly removeIds: readonly number[];
  readonly prioBackup: boolean | null;
  readonly joinAddressId: number;
  readonly joinBackup: boolean;
  readonly ip: Uint8Array;
}

export interface Endpoint {
  readonly address: IpAddress;
  readonly port: number;
}

/** A subflow of the capture, seen from the end that is played. */
export interface SubflowNames {
  readonly own: Endpoint;
  readonly peer: Endpoint;
  readonly opener: 'own' | 'peer';
  /** Of the SYN. Data that it carried and the SYN/ACK acknowledged counts as part of it (RFC 8684 B.2). */
  ownIsn: number;
  peerIsn: number;
  ownSynBytes: number;
  peerSynBytes: number;
}

export interface Trace {
  readonly name: string;
  readonly end: End;
  readonly subflows: SubflowNames[];
  /** Null where it never showed one. */
  readonly ownKey: Uint8Array | null;
  readonly ownIdsn: U64;
  readonly peerIdsn: U64;
  readonly own: Segment[];
  /** As delivered. */
  readonly peer: Segment[];
  /** Highest subflow sequence numbers of ours that arrived at the peer, per subflow, where some never did. */
  readonly arrivedTo: Map<number, number>;
}

const NO_IDSN: U64 = { hi: 0, lo: 0 };
const NO_OPTION = new Uint8Array(0);

interface Raw {
  readonly timeUs: number;
  readonly ip: Uint8Array;
  readonly seg: SegmentView;
  readonly from: End;
}

/** `connection` picks one where a capture holds several (by their ports, in order). */
export function readTrace(name: string, end: End, connection = 0): Trace {
  const sent = readRaw(name);
  const hasDelivered = captureNames().includes(`${name}.delivered`);
  const delivered = hasDelivered ? readRaw(`${name}.delivered`) : sent;
  const opening = sent.filter(({ seg, from }) => isOpening(seg) && from === 'A');
  const chosen = [...new Set(opening.map(({ seg }) => seg.srcPort))][connection]!;
  const isOther = (raw: Raw) =>
    opening.some(({ seg }) => seg.srcPort !== chosen && [raw.seg.srcPort, raw.seg.dstPort].includes(seg.srcPort));
  const ownRaw = sent.filter((raw) => raw.from === end && !isOther(raw));
  const peerRaw = delivered.filter((raw) => raw.from !== end && !isOther(raw));
  const ownArrived = delivered.filter((raw) => raw.from === end && !isOther(raw));

  const ownKey = keyOf(
    sent.filter((raw) => !isOther(raw)),
    end,
  );
  const peerKey = keyOf(
    sent.filter((raw) => !isOther(raw)),
    end === 'A' ? 'B' : 'A',
  );
  const t0 = sent[0]!.timeUs;
  const trace: Trace = {
    name,
    end,
    subflows: nameSubflows(ownRaw, peerRaw),
    ownKey,
    ownIdsn: ownKey === null ? NO_IDSN : deriveFromKey(nodeEnv, ownKey).idsn,
    peerIdsn: peerKey === null ? NO_IDSN : deriveFromKey(nodeEnv, peerKey).idsn,
    own: [],
    peer: [],
    arrivedTo: new Map(),
  };
  for (const raw of ownRaw) trace.own.push(decode(trace, raw.ip, raw.seg, raw.timeUs - t0, 'own')!);
  for (const raw of peerRaw) trace.peer.push(decode(trace, raw.ip, raw.seg, raw.timeUs - t0, 'peer')!);
  if (hasDelivered) noteLosses(trace, ownArrived);
  return trace;
}

function readRaw(name: string): Raw[] {
  const out: Raw[] = [];
  for (const { timeUs, ip } of readCapture(name)) {
    const seg = new SegmentView();
    if (parseSegment(ip, 0, ip.length, 0, seg) !== 'ok') continue;
    const source = ipFromBytes(ip, seg.srcOff, seg.family).text;
    out.push({
      timeUs,
      ip: ip.subarray(0, seg.ipEnd),
      seg,
      from: source.endsWith('.1') || source.endsWith(':1') ? 'A' : 'B',
    });
  }
  return out;
}

function isOpening({ flags, mptcp }: SegmentView): boolean {
  return (flags & (TCP_SYN | TCP_ACK)) === TCP_SYN && (mptcp.present & MPO.join) === 0;
}

/** B's key stands in its SYN/ACK, A's in its third packet. */
function keyOf(packets: Raw[], end: End): Uint8Array | null {
  for (const { seg, from } of packets) {
    const { capableLength, senderKeyHi, senderKeyLo } = seg.mptcp;
    const carries = end === 'B' ? capableLength === CAPABLE_SYNACK_BYTES : capableLength >= CAPABLE_ACK_BYTES;
    if (from === end && carries) return keyBytes(senderKeyHi, senderKeyLo);
  }
  return null;
}

function nameSubflows(own: Raw[], peer: Raw[]): SubflowNames[] {
  const subflows: SubflowNames[] = [];
  const all = [
    ...own.map((raw) => ({ ...raw, by: 'own' as const })),
    ...peer.map((raw) => ({ ...raw, by: 'peer' as const })),
  ];
  for (const { ip, seg, by } of all.sort((a, b) => a.timeUs - b.timeUs)) {
    if ((seg.flags & TCP_SYN) === 0) continue;
    const { source, destination } = endpointsOf(ip, seg);
    const [mine, theirs] = by === 'own' ? [source, destination] : [destination, source];
    let sf = subflows.find((s) => isSame(s.own, mine) && isSame(s.peer, theirs));
    if (sf === undefined) {
      sf = { own: mine, peer: theirs, opener: by, ownIsn: 0, peerIsn: 0, ownSynBytes: 0, peerSynBytes: 0 };
      subflows.push(sf);
    }
    if (by === 'own') sf.ownIsn = seg.seq;
    else sf.peerIsn = seg.seq;
    if ((seg.flags & TCP_ACK) === 0) continue;
    if (by === 'own') sf.peerSynBytes = (seg.ack - sf.peerIsn - 1) >>> 0;
    else sf.ownSynBytes = (seg.ack - sf.ownIsn - 1) >>> 0;
  }
  return subflows;
}

function endpointsOf(ip: Uint8Array, seg: SegmentView): { source: Endpoint; destination: Endpoint } {
  return {
    source: { address: ipFromBytes(ip, seg.srcOff, seg.family), port: seg.srcPort },
    destination: { address: ipFromBytes(ip, seg.dstOff, seg.family), port: seg.dstPort },
  };
}

const isSame = (a: Endpoint, b: Endpoint) => a.address.text === b.address.text && a.port === b.port;

/** Our own stack opens joins from the connection's port, the kernel from any: then the two addresses say which it is. */
export function subflowOf(trace: Trace, own: Endpoint, peer: Endpoint): number {
  const exact = trace.subflows.findIndex((s) => isSame(s.own, own) && isSame(s.peer, peer));
  if (exact >= 0) return exact;
  return trace.subflows.findIndex(
    (s, i) => i > 0 && s.own.address.text === own.address.text && s.peer.address.text === peer.address.text,
  );
}

/** Null: not of this connection. `seg` is `ip` parsed. */
export function decode(
  trace: Trace,
  ip: Uint8Array,
  seg: SegmentView,
  timeUs: number,
  by: 'own' | 'peer',
): Segment | null {
  const { source, destination } = endpointsOf(ip, seg);
  const [mine, theirs] = by === 'own' ? [source, destination] : [destination, source];
  const subflow = subflowOf(trace, mine, theirs);
  if (subflow < 0) return null;
  const { ownIsn, peerIsn, ownSynBytes, peerSynBytes } = trace.subflows[subflow]!;
  const [ownFirst, peerFirst] = [ownIsn + ownSynBytes, peerIsn + peerSynBytes];
  const [first, otherFirst] = by === 'own' ? [ownFirst, peerFirst] : [peerFirst, ownFirst];
  const isSyn = (seg.flags & TCP_SYN) !== 0;
  const [idsn, otherIdsn] = by === 'own' ? [trace.ownIdsn, trace.peerIdsn] : [trace.peerIdsn, trace.ownIdsn];
  const o = seg.mptcp;
  const hasDss = (o.present & MPO.dss) !== 0;
  const dsn = hasDss && o.dsnBytes > 0 ? dataNumber(o.dsnBytes, o.dsnHi, o.dsnLo, idsn) : -1;
  const isInfinite = dsn >= 0 && o.dll === 0;
  const lengthBytes = isInfinite ? Number.POSITIVE_INFINITY : o.dll - (o.dataFin ? 1 : 0);
  let mapping: Mapping | null = null;
  if (dsn >= 0) mapping = { dsn, ssn: o.ssn, lengthBytes, dll: o.dll, checksum: o.dssChecksum };
  else if (o.capableDll > 0) {
    const { capableDll: dll, capableChecksum: checksum } = o;
    mapping = { dsn: 1, ssn: 1, lengthBytes: dll, dll, checksum };
  }
  return {
    timeUs,
    subflow,
    seq: isSyn ? 0 : unwrap32(seg.seq, first, 0),
    ack: (seg.flags & TCP_ACK) === 0 ? -1 : unwrap32(seg.ack, otherFirst, 0),
    flags: seg.flags,
    window: seg.window,
    synOptions: isSyn ? synOptionsOf(seg) : '',
    fastOpen: isSyn ? fastOpenOf(seg) : NO_OPTION,
    tsVal: seg.tsVal,
    payload: ip.subarray(seg.payloadOff, seg.payloadOff + seg.payloadLen),
    handshake: handshakeOf(o),
    nonce: o.joinNonce,
    dataAck: hasDss && o.dataAckBytes > 0 ? dataNumber(o.dataAckBytes, o.dataAckHi, o.dataAckLo, otherIdsn) : -1,
    mapping,
    dataFin: hasDss && o.dataFin ? dsn + lengthBytes : -1,
    isInfinite,
    signals: signalsOf(o, otherIdsn),
    resetReason: (o.present & MPO.tcprst) === 0 ? '' : `MP_TCPRST reason ${o.tcprstReason} flags ${o.tcprstFlags}`,
    addAddrs: o.addAddrs.map((a) => ({ ...a })),
    removeIds: [...o.removeIds],
    prioBackup: (o.present & MPO.prio) === 0 ? null : o.prioBackup,
    joinAddressId: o.joinAddressId,
    joinBackup: o.joinBackup,
    ip,
  };
}

function dataNumber(bytes: number, hi: number, lo: number, idsn: U64): number {
  return bytes === 8 ? relativeDsn(hi, lo, idsn) : unwrap32(lo, idsn.lo, 0);
}

function synOptionsOf(seg: SegmentView): string {
  const parts = [`MSS ${seg.mss}`];
  if (seg.sackPermitted) parts.push('SACK');
  if (seg.hasTs) parts.push('TS');
  if (seg.wscale >= 0) parts.push('WS');
  const fastOpen = fastOpenOf(seg);
  if (fastOpen.length > 0) parts.push(`FO ${hex(fastOpen.subarray(2)) || 'request'}`);
  return parts.join(' ');
}

function fastOpenOf(seg: SegmentView): Uint8Array {
  const { buf, l4Off, payloadOff } = seg;
  for (let o = l4Off + TCP_HEADER_BYTES; o < payloadOff && buf[o] !== OPT_EOL; ) {
    const length = buf[o] === OPT_NOP ? 1 : buf[o + 1]!;
    if (buf[o] === OPT_FAST_OPEN) return buf.slice(o, o + length);
    o += length;
  }
  return NO_OPTION;
}

function handshakeOf(o: MptcpOptions): string {
  const hexOf = (...words: number[]) => words.map((w) => w.toString(16).padStart(8, '0')).join('');
  if ((o.present & MPO.capable) !== 0) {
    let text = `MP_CAPABLE v${o.capableVersion} flags ${o.capableFlags.toString(16).padStart(2, '0')}`;
    if (o.capableLength >= CAPABLE_SYNACK_BYTES) text += ` key ${hexOf(o.senderKeyHi, o.senderKeyLo)}`;
    if (o.capableLength >= CAPABLE_ACK_BYTES) text += ` and ${hexOf(o.receiverKeyHi, o.receiverKeyLo)}`;
    return text;
  }
  if ((o.present & MPO.join) === 0) return '';
  const flags = `id ${o.joinAddressId} backup ${o.joinBackup ? 1 : 0}`;
  if (o.joinLength === 12) return `MP_JOIN ${flags} token ${hexOf(o.joinToken)} nonce ${hexOf(o.joinNonce)}`;
  if (o.joinLength === 16) return `MP_JOIN ${flags} hmac ${hex(o.joinHmac.subarray(0, 8))} nonce ${hexOf(o.joinNonce)}`;
  return `MP_JOIN hmac ${hex(o.joinHmac)}`;
}

/** `idsn` is the other end's: MP_FAIL speaks of what was received. */
function signalsOf(o: MptcpOptions, idsn: U64): Signal[] {
  const signals: Signal[] = [];
  for (const a of o.addAddrs) {
    const endpoint = a.port >= 0 ? `${a.address.text} port ${a.port}` : a.address.text;
    if (a.echo) signals.push({ what: `ADD_ADDR ${a.addressId} echo`, value: endpoint });
    else signals.push({ what: `ADD_ADDR ${a.addressId}`, value: `${endpoint} hmac ${hex(a.hmac)}` });
  }
  if (o.removeIds.length > 0) signals.push({ what: 'REMOVE_ADDR', value: o.removeIds.join(' ') });
  if ((o.present & MPO.prio) !== 0) signals.push({ what: 'MP_PRIO', value: `backup ${o.prioBackup ? 1 : 0}` });
  if ((o.present & MPO.fail) !== 0) {
    signals.push({ what: 'MP_FAIL', value: `dsn ${relativeDsn(o.failDsnHi, o.failDsnLo, idsn)}` });
  }
  if ((o.present & MPO.fastclose) !== 0) {
    signals.push({ what: 'MP_FASTCLOSE', value: `key ${hex(keyBytes(o.fastcloseKeyHi, o.fastcloseKeyLo))}` });
  }
  return signals;
}

/** A path that swallowed data of ours for good: what we send there from then on does not arrive either. */
function noteLosses(trace: Trace, arrived: Raw[]): void {
  const got = arrived.map((raw) => decode(trace, raw.ip, raw.seg, 0, 'own')).filter((s) => s !== null);
  for (const [subflow] of trace.subflows.entries()) {
    const topOf = (list: Segment[]) =>
      Math.max(
        0,
        ...list.filter((s) => s.subflow === subflow && (s.flags & TCP_RST) === 0).map((s) => s.seq + s.payload.length),
      );
    const top = topOf(got);
    if (top < topOf(trace.own)) trace.arrivedTo.set(subflow, top);
  }
}
