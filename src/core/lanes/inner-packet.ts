/**
 * An IP packet of the tunnel's users, as far as lanes look at it: where its L4 header is, and who talks to
 * whom. Filled in place by `parseInner`; total: any bytes give a view or a named reason.
 * (RFC 791 §3.1, RFC 8200 §3 and §4, RFC 9293 §3.1, RFC 768.)
 */
import { type Family, type IpAddress, ipFromBytes } from '../base/ip.js';
import { getU16, getU32, putU16 } from '../base/wire-int.js';
import { finishChecksum, sumRange, updateChecksum } from '../wire/checksum.js';

export const PROTO_ICMP = 1;
export const PROTO_TCP = 6;
export const PROTO_UDP = 17;
export const PROTO_ICMP6 = 58;
/** `protocol` of a non-first fragment: no L4 header in it. */
export const PROTO_FRAGMENT = -1;

export const ECN_CE = 3;

const IP6_HOP_BY_HOP = 0;
const IP6_ROUTING = 43;
const IP6_FRAGMENT = 44;
const IP6_DESTINATION = 60;
/** Extension headers that are walked before the packet counts as "other". */
const MAX_EXTENSIONS = 8;

export type InnerReason =
  | 'inner_short'
  | 'inner_version'
  | 'inner_header_length'
  | 'inner_total_length'
  | 'inner_extension_headers';

export class InnerView {
  family: 4 | 6 = 4;
  /** L4 protocol, or PROTO_FRAGMENT. */
  protocol = 0;
  /** Of all fragments: neither whole packets nor parts of super-packets. */
  isFragment = false;
  /** Bytes of the whole packet. */
  totalBytes = 0;
  /** Offset of the L4 header from the start of the packet. */
  l4Offset = 0;
  /** IP + TCP or UDP header bytes; = l4Offset where there is no sound TCP or UDP header. */
  headerBytes = 0;
  /** There is a TCP or UDP header, and its own lengths are right. */
  hasPorts = false;
  srcPort = 0;
  dstPort = 0;
  tcpFlags = 0;
  tcpSeq = 0;
  /** Offsets of the addresses from the start of the packet. */
  srcAt = 0;
  dstAt = 0;

  copyFrom(v: InnerView): void {
    this.family = v.family;
    this.protocol = v.protocol;
    this.isFragment = v.isFragment;
    this.totalBytes = v.totalBytes;
    this.l4Offset = v.l4Offset;
    this.headerBytes = v.headerBytes;
    this.hasPorts = v.hasPorts;
    this.srcPort = v.srcPort;
    this.dstPort = v.dstPort;
    this.tcpFlags = v.tcpFlags;
    this.tcpSeq = v.tcpSeq;
    this.srcAt = v.srcAt;
    this.dstAt = v.dstAt;
  }
}

/**
 * `lengthBytes` is what the carrier says the packet's length is; at least min(lengthBytes, 128) bytes must be readable
 * at b[o..], `readableBytes` in all.
 */
export function parseInner(
  b: Uint8Array,
  o: number,
  readableBytes: number,
  lengthBytes: number,
  out: InnerView,
): InnerReason | null {
  if (lengthBytes < 20 || readableBytes < 20) return 'inner_short';
  const version = b[o]! >>> 4;
  if (version === 4) {
    const reason = parse4(b, o, readableBytes, lengthBytes, out);
    if (reason !== null) return reason;
  } else if (version === 6) {
    const reason = parse6(b, o, readableBytes, lengthBytes, out);
    if (reason !== null) return reason;
  } else {
    return 'inner_version';
  }
  parseL4(b, o, readableBytes, out);
  return null;
}

function parse4(b: Uint8Array, o: number, readable: number, length: number, out: InnerView): InnerReason | null {
  const ihl = (b[o]! & 0x0f) * 4;
  if (ihl < 20 || ihl > length || ihl > readable) return 'inner_header_length';
  if (getU16(b, o + 2) !== length) return 'inner_total_length';
  const fragment = getU16(b, o + 6) & 0x3fff;
  out.family = 4;
  out.isFragment = fragment !== 0;
  out.protocol = (fragment & 0x1fff) === 0 ? b[o + 9]! : PROTO_FRAGMENT;
  out.totalBytes = length;
  out.l4Offset = ihl;
  out.srcAt = 12;
  out.dstAt = 16;
  return null;
}

function parse6(b: Uint8Array, o: number, readable: number, length: number, out: InnerView): InnerReason | null {
  if (length < 40 || readable < 40) return 'inner_short';
  if (getU16(b, o + 4) + 40 !== length) return 'inner_total_length';
  out.family = 6;
  out.isFragment = false;
  out.totalBytes = length;
  out.srcAt = 8;
  out.dstAt = 24;
  let next = b[o + 6]!;
  let at = 40;
  for (let n = 0; ; n++) {
    if (next !== IP6_HOP_BY_HOP && next !== IP6_ROUTING && next !== IP6_DESTINATION && next !== IP6_FRAGMENT) break;
    // Behind what is readable nothing needs to be known: such a packet has no ports here, and no offload.
    if (n === MAX_EXTENSIONS || at + 8 > readable) {
      next = PROTO_FRAGMENT;
      break;
    }
    if (at + 8 > length) return 'inner_extension_headers';
    const following = b[o + at]!;
    if (next === IP6_FRAGMENT) {
      out.isFragment = true;
      if ((getU16(b, o + at + 2) & 0xfff8) !== 0) {
        next = PROTO_FRAGMENT;
        break;
      }
      at += 8;
    } else {
      at += (b[o + at + 1]! + 1) * 8;
    }
    if (at > length) return 'inner_extension_headers';
    next = following;
  }
  out.protocol = next;
  out.l4Offset = at;
  return null;
}

function parseL4(b: Uint8Array, o: number, readable: number, out: InnerView): void {
  const at = out.l4Offset;
  const l4Bytes = out.totalBytes - at;
  out.hasPorts = false;
  out.headerBytes = at;
  out.srcPort = 0;
  out.dstPort = 0;
  out.tcpFlags = 0;
  if (out.protocol === PROTO_TCP && l4Bytes >= 20 && at + 20 <= readable) {
    const headerBytes = (b[o + at + 12]! >>> 4) * 4;
    if (headerBytes < 20 || headerBytes > l4Bytes || at + headerBytes > readable) return;
    out.headerBytes = at + headerBytes;
    out.tcpSeq = getU32(b, o + at + 4);
    out.tcpFlags = b[o + at + 13]!;
  } else if (out.protocol === PROTO_UDP && l4Bytes >= 8 && at + 8 <= readable) {
    if (!out.isFragment && getU16(b, o + at + 4) !== l4Bytes) return;
    out.headerBytes = at + 8;
  } else {
    return;
  }
  out.hasPorts = true;
  out.srcPort = getU16(b, o + at);
  out.dstPort = getU16(b, o + at + 2);
}

/** 32-bit hash of addresses, protocol and ports (fragments: without ports), perturbed by a secret seed. */
export function flowHash(b: Uint8Array, o: number, v: InnerView, seed: number): number {
  let h = seed ^ (v.isFragment ? PROTO_FRAGMENT : v.protocol);
  const end = o + v.srcAt + (v.family === 4 ? 8 : 32);
  for (let i = o + v.srcAt; i < end; i += 4) h = mix(h, getU32(b, i));
  if (v.hasPorts && !v.isFragment) h = mix(h, (v.srcPort << 16) | v.dstPort);
  h ^= h >>> 16;
  h = Math.imul(h, 0x85eb_ca6b);
  h ^= h >>> 13;
  return h >>> 0;
}

function mix(h: number, word: number): number {
  h = Math.imul(h ^ word, 0x9e37_79b1);
  return (h << 13) | (h >>> 19);
}

/** The address at b[at..] as a value (allocates: once per flow, not per packet). */
export function copyAddress(b: Uint8Array, at: number, family: Family): IpAddress {
  return ipFromBytes(b, at, family);
}

/** Marks CE where the packet is ECN-capable (RFC 3168 §5); false where it is not. Of a super-packet: every segment. */
export function markCe(b: Uint8Array, o: number): boolean {
  if (b[o]! >>> 4 === 4) {
    const ecn = b[o + 1]! & 3;
    if (ecn === 0) return false;
    if (ecn === ECN_CE) return true;
    const before = getU16(b, o);
    b[o + 1] = b[o + 1]! | ECN_CE;
    putU16(b, o + 10, updateChecksum(getU16(b, o + 10), before, getU16(b, o)));
    return true;
  }
  const ecn = (b[o + 1]! >>> 4) & 3;
  if (ecn === 0) return false;
  b[o + 1] = b[o + 1]! | 0x30;
  return true;
}

/** Sum of the TCP/UDP pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1), folded, not complemented. */
export function pseudoHeaderSum(b: Uint8Array, o: number, v: InnerView): number {
  const l4Bytes = v.totalBytes - v.l4Offset;
  return sumRange(b, o + v.srcAt, v.family === 4 ? 8 : 32, v.protocol + l4Bytes);
}

/** Offset of the checksum field in the L4 header, or -1. */
export function checksumOffset(protocol: number): number {
  return protocol === PROTO_TCP ? 16 : protocol === PROTO_UDP ? 6 : -1;
}

/** Makes the unfinished L4 checksum of a packet that lies whole at b[o..] (for peers without our context). */
export function finishL4Checksum(b: Uint8Array, o: number, v: InnerView): void {
  const at = o + v.l4Offset + checksumOffset(v.protocol);
  putU16(b, at, 0);
  const value = finishChecksum(sumRange(b, o + v.l4Offset, v.totalBytes - v.l4Offset, pseudoHeaderSum(b, o, v)));
  // RFC 768: a UDP checksum that comes out as zero is sent as all ones.
  putU16(b, at, value === 0 && v.protocol === PROTO_UDP ? 0xffff : value);
}
