/**
 * ICMP errors (RFC 792, RFC 1122 3.2.2, RFC 1191) and ICMPv6 errors (RFC 4443): reading those that quote packets of ours,
 * for the checks of RFC 5927 and path-MTU discovery, and writing those that we answer into a TUN.
 */
import { ipFromBytes } from '../base/ip.js';
import { getU16, getU32, putU16, putU32 } from '../base/wire-int.js';
import { finishChecksum, sumRange } from './checksum.js';
import {
  ECN_NOT_ECT,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  type IpHeader,
  ipHeaderBytes,
  PROTO_ICMP,
  PROTO_ICMPV6,
  PROTO_TCP,
  PROTO_UDP,
  pseudoHeaderSum,
  pseudoHeaderSumOf,
  writeIpHeader,
} from './ip.js';
import type { Family, IpAddress } from './types.js';

const ICMP_HEADER_BYTES = 8;
/** Both transports have their ports, and TCP its sequence number, in the first 8 bytes: all that RFC 792 quotes. */
const MIN_QUOTED_L4_BYTES = 8;

// ICMP types.
const V4_ECHO_REPLY = 0;
const V4_UNREACHABLE = 3;
const V4_ECHO = 8;
const V4_TIME_EXCEEDED = 11;
const V4_PARAMETER_PROBLEM = 12;
const V4_TIMESTAMP = 13;
const V4_TIMESTAMP_REPLY = 14;
const V4_CODE_FRAG_NEEDED = 4;
const V6_UNREACHABLE = 1;
const V6_TOO_BIG = 2;
const V6_TIME_EXCEEDED = 3;
const V6_PARAMETER_PROBLEM = 4;
const V6_FIRST_INFORMATIONAL = 128;

/**
 * What an error means for a connection: `hard` ends an attempt to connect but never an established connection, `soft` is
 * only noted (RFC 1122 4.2.3.9, RFC 5461), `too-big` is path-MTU discovery's.
 */
export type IcmpErrorClass = 'hard' | 'soft' | 'too-big';

export type IcmpParseResult = 'ok' | 'not-icmp-error' | 'icmp-truncated' | 'bad-icmp-checksum' | 'bad-icmp-quote';

/** One ICMP error, parsed in place; offsets are absolute in `buf`. */
export class IcmpErrorView {
  buf: Uint8Array = new Uint8Array(0);
  family: Family = 4;
  type = 0;
  code = 0;
  errorClass: IcmpErrorClass = 'soft';
  /** `too-big` only: MTU of the next hop in bytes; 0 from an IPv4 router that does not know RFC 1191. */
  mtuBytes = 0;
  /** Addresses of the quoted packet: the source is the host that is told of the error. */
  quotedSrcOff = 0;
  quotedDstOff = 0;
  quotedProtocol = 0;
  quotedSrcPort = 0;
  quotedDstPort = 0;
  /** TCP only: sequence number of the quoted segment, to be checked against what is in flight (RFC 5927 4.1). */
  quotedSeq = 0;
}

/**
 * Parses the ICMP error in a packet whose IP header is parsed (`parseSegment` said 'not-tcp', or `parseIpHeader` 'ok').
 * Only quotes of TCP and UDP are taken: nothing else has ports to find a connection by.
 */
export function parseIcmpError(ip: IpHeader, out: IcmpErrorView): IcmpParseResult {
  const buf = ip.buf;
  const o = ip.l4Off;
  const isV4 = ip.family === 4;
  if (ip.isFragment || ip.protocol !== (isV4 ? PROTO_ICMP : PROTO_ICMPV6)) return 'not-icmp-error';
  if (o + ICMP_HEADER_BYTES > ip.ipEnd) return 'icmp-truncated';
  out.buf = buf;
  out.family = ip.family;
  out.type = buf[o]!;
  out.code = buf[o + 1]!;
  out.mtuBytes = 0;
  const errorClass = isV4 ? classify4(out.type, out.code) : classify6(out.type, out.code);
  if (errorClass === null) return 'not-icmp-error';
  out.errorClass = errorClass;
  if (sumRange(buf, o, ip.ipEnd - o, isV4 ? 0 : pseudoHeaderSumOf(ip)) !== 0xffff) return 'bad-icmp-checksum';
  if (errorClass === 'too-big') out.mtuBytes = isV4 ? getU16(buf, o + 6) : getU32(buf, o + 4);
  return parseQuote(buf, o + ICMP_HEADER_BYTES, ip.ipEnd, out) ? 'ok' : 'bad-icmp-quote';
}

/** The quoted header may be cut short behind 8 bytes of L4, and its checksum may be stale: only addresses are read. */
function parseQuote(buf: Uint8Array, o: number, end: number, out: IcmpErrorView): boolean {
  if (o >= end || buf[o]! >>> 4 !== out.family) return false;
  let l4 = o + IPV6_HEADER_BYTES;
  if (out.family === 4) {
    const headerBytes = (buf[o]! & 0x0f) * 4;
    l4 = o + headerBytes;
    if (headerBytes < IPV4_HEADER_BYTES || l4 + MIN_QUOTED_L4_BYTES > end) return false;
    if ((getU16(buf, o + 6) & 0x1fff) !== 0) return false; // not the first fragment: no ports
    out.quotedProtocol = buf[o + 9]!;
    out.quotedSrcOff = o + 12;
    out.quotedDstOff = o + 16;
  } else {
    if (l4 + MIN_QUOTED_L4_BYTES > end) return false;
    out.quotedProtocol = buf[o + 6]!; // we send no extension headers
    out.quotedSrcOff = o + 8;
    out.quotedDstOff = o + 24;
  }
  if (out.quotedProtocol !== PROTO_TCP && out.quotedProtocol !== PROTO_UDP) return false;
  out.quotedSrcPort = getU16(buf, l4);
  out.quotedDstPort = getU16(buf, l4 + 2);
  out.quotedSeq = out.quotedProtocol === PROTO_TCP ? getU32(buf, l4 + 4) : 0;
  return true;
}

/** RFC 1122 3.2.2.1 and 4.2.3.9: 2 and 3 are hard, 0, 1, 5, 11, 12 soft; the prohibitions (9, 10, 13 to 15) are answers too. */
function classify4(type: number, code: number): IcmpErrorClass | null {
  if (type === V4_TIME_EXCEEDED || type === V4_PARAMETER_PROBLEM) return 'soft';
  if (type !== V4_UNREACHABLE) return null;
  if (code === V4_CODE_FRAG_NEEDED) return 'too-big';
  return code === 0 || code === 1 || code === 5 || code === 11 || code === 12 || code > 15 ? 'soft' : 'hard';
}

/** RFC 4443 3.1: prohibited (1, 5, 6) and port unreachable (4) are hard; no route, scope, address are soft. */
function classify6(type: number, code: number): IcmpErrorClass | null {
  if (type === V6_TOO_BIG) return 'too-big';
  if (type === V6_TIME_EXCEEDED) return 'soft';
  if (type === V6_PARAMETER_PROBLEM) return code === 1 ? 'hard' : 'soft'; // 1: next header unknown, no TCP there
  if (type !== V6_UNREACHABLE) return null;
  return code === 1 || code === 4 || code === 5 || code === 6 ? 'hard' : 'soft';
}

/** Errors that we write ourselves, with type and code for IPv4 and IPv6. */
const ERRORS = {
  'no-route': { v4: [V4_UNREACHABLE, 0], v6: [V6_UNREACHABLE, 0] },
  'host-unreachable': { v4: [V4_UNREACHABLE, 1], v6: [V6_UNREACHABLE, 3] },
  'port-unreachable': { v4: [V4_UNREACHABLE, 3], v6: [V6_UNREACHABLE, 4] },
  prohibited: { v4: [V4_UNREACHABLE, 13], v6: [V6_UNREACHABLE, 1] },
  'too-big': { v4: [V4_UNREACHABLE, V4_CODE_FRAG_NEEDED], v6: [V6_TOO_BIG, 0] },
  'ttl-exceeded': { v4: [V4_TIME_EXCEEDED, 0], v6: [V6_TIME_EXCEEDED, 0] },
} as const;

export type IcmpErrorKind = keyof typeof ERRORS;

/** Largest error packets: 576 bytes (RFC 1812 4.3.2.3), and the IPv6 minimum MTU (RFC 4443 2.4 (c)). */
const MAX_V4_ERROR_BYTES = 576;
const MAX_V6_ERROR_BYTES = 1280;
/** `writeIcmpError` never writes more. */
export const MAX_ICMP_ERROR_BYTES = MAX_V6_ERROR_BYTES;

/**
 * True if an error may be sent for this packet (RFC 1122 3.2.2, RFC 4443 2.4 (e)): never for an ICMP error, a fragment
 * other than the first, or a packet to or from anything but single hosts; `too-big` alone answers IPv6 multicast.
 */
export function mayAnswerWithIcmp(ip: IpHeader, kind: IcmpErrorKind): boolean {
  const buf = ip.buf;
  if (ip.fragmentOffset > 0) return false;
  if (ip.family === 4) {
    const src = buf[ip.srcOff]!;
    if (src === 0 || src === 127 || src >= 224 || buf[ip.dstOff]! >= 224) return false;
    if (ip.protocol !== PROTO_ICMP) return true;
    if (ip.l4Off >= ip.ipEnd) return false;
    const type = buf[ip.l4Off]!;
    return type === V4_ECHO || type === V4_ECHO_REPLY || type === V4_TIMESTAMP || type === V4_TIMESTAMP_REPLY;
  }
  if (buf[ip.srcOff] === 0xff || isZero(buf, ip.srcOff, 16)) return false;
  if (buf[ip.dstOff] === 0xff && kind !== 'too-big') return false;
  if (ip.protocol !== PROTO_ICMPV6) return true;
  return ip.l4Off < ip.ipEnd && buf[ip.l4Off]! >= V6_FIRST_INFORMATIONAL;
}

/**
 * Writes a whole IP packet at `o` (room for MAX_ICMP_ERROR_BYTES) that tells the sender of `invoking` of the error, from
 * `source`; returns its length, or 0 where none may be sent. `mtuBytes` counts for 'too-big' only. The limit on how many
 * errors are sent (RFC 4443 2.4 (f)) is the caller's.
 */
export function writeIcmpError(
  out: Uint8Array,
  o: number,
  kind: IcmpErrorKind,
  mtuBytes: number,
  source: IpAddress,
  invoking: IpHeader,
): number {
  if (source.family !== invoking.family || !mayAnswerWithIcmp(invoking, kind)) return 0;
  const isV4 = invoking.family === 4;
  const [type, code] = isV4 ? ERRORS[kind].v4 : ERRORS[kind].v6;
  const ipBytes = ipHeaderBytes(invoking.family);
  const roomBytes = (isV4 ? MAX_V4_ERROR_BYTES : MAX_V6_ERROR_BYTES) - ipBytes - ICMP_HEADER_BYTES;
  const quoteBytes = Math.min(invoking.ipEnd - invoking.ipStart, roomBytes);
  const icmpBytes = ICMP_HEADER_BYTES + quoteBytes;
  const destination = ipFromBytes(invoking.buf, invoking.srcOff, invoking.family);
  writeIpHeader(
    out,
    o,
    invoking.family,
    source,
    destination,
    icmpBytes,
    isV4 ? PROTO_ICMP : PROTO_ICMPV6,
    ECN_NOT_ECT,
    0,
  );

  const icmp = o + ipBytes;
  out[icmp] = type;
  out[icmp + 1] = code;
  putU16(out, icmp + 2, 0);
  const mtuField = kind !== 'too-big' ? 0 : isV4 ? Math.min(mtuBytes, 0xffff) : mtuBytes;
  putU32(out, icmp + 4, mtuField);
  for (let i = 0; i < quoteBytes; i++) out[icmp + ICMP_HEADER_BYTES + i] = invoking.buf[invoking.ipStart + i]!;
  const pseudo = isV4 ? 0 : pseudoHeaderSum(source, destination, PROTO_ICMPV6, icmpBytes);
  putU16(out, icmp + 2, finishChecksum(sumRange(out, icmp, icmpBytes, pseudo)));
  return ipBytes + icmpBytes;
}

function isZero(buf: Uint8Array, offset: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (buf[offset + i] !== 0) return false;
  return true;
}
