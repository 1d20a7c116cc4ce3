/**
 * IPv4 (RFC 791, RFC 6864) and IPv6 (RFC 8200) headers: parsing in place into a reusable view, writing, and the
 * pseudo-header sum of the transport checksums (RFC 9293 3.1, RFC 8200 8.1).
 */
import { getU16, putU16, putU32 } from '../base/wire-int.js';
import { finishChecksum, foldSum, sumRange } from './checksum.js';
import type { Family, IpAddress } from './types.js';

export const PROTO_ICMP = 1;
export const PROTO_TCP = 6;
export const PROTO_UDP = 17;
export const PROTO_ICMPV6 = 58;

/** ECN field (RFC 3168 5): not capable, ECT(1), ECT(0), congestion experienced. */
export const ECN_NOT_ECT = 0;
export const ECN_ECT1 = 1;
export const ECN_ECT0 = 2;
export const ECN_CE = 3;

export const IPV4_HEADER_BYTES = 20;
export const IPV6_HEADER_BYTES = 40;
const MAX_IP_LENGTH = 0xffff;

const DEFAULT_TTL = 64;
/** First 16 bits: version 4, header of 5 words, DSCP 0. */
const V4_VERSION_IHL = 0x4500;
const V4_DONT_FRAGMENT = 0x4000;
const V4_MORE_FRAGMENTS = 0x2000;
const V4_FRAGMENT_OFFSET = 0x1fff;

// IPv6 extension headers (RFC 8200 4, RFC 4302).
const EXT_HOP_BY_HOP = 0;
const EXT_ROUTING = 43;
const EXT_FRAGMENT = 44;
const EXT_AH = 51;
const EXT_DESTINATION = 60;
/** Our own limit: a longer chain is nobody's honest traffic. */
const MAX_EXTENSION_HEADERS = 8;

/** Why a packet is not usable IP. */
export type IpParseResult = 'ok' | 'truncated' | 'not-ip' | 'bad-ip-header' | 'bad-ip-checksum';

/** One IP header, parsed in place; offsets are absolute in `buf`. Valid until the next parse into it. */
export class IpHeader {
  buf: Uint8Array = new Uint8Array(0);
  /** Of exactly `buf`; made anew only when another buffer comes (a receive slab serves many packets). */
  view: DataView = new DataView(new ArrayBuffer(0));
  family: Family = 4;
  /** Offset of the IP header. */
  ipStart = 0;
  /** Offset of the transport header, behind IPv4 options and IPv6 extension headers. */
  l4Off = 0;
  /** Offset behind the packet's last byte, by its own length field (link padding excluded). */
  ipEnd = 0;
  /** Transport protocol: the last next-header value. */
  protocol = 0;
  /** Offsets of the addresses in `buf` (4 or 16 bytes each, by `family`). */
  srcOff = 0;
  dstOff = 0;
  dscp = 0;
  /** IP ECN field, 0..3 (3 = CE). */
  ecn = 0;
  /** IP TTL or hop limit. */
  ttl = 0;
  /** A fragment of a larger packet (an IPv6 atomic fragment is not one, RFC 6946). */
  isFragment = false;
  /** Offset of this fragment's data in the original packet, bytes. */
  fragmentOffset = 0;
}

/** Parses the IP header at `offset` of the `length` bytes there. Total: any bytes give 'ok' or a named reason. */
export function parseIpHeader(buf: Uint8Array, offset: number, length: number, out: IpHeader): IpParseResult {
  if (offset < 0 || offset + length > buf.length || length < 1) return 'truncated';
  if (out.buf !== buf) {
    out.buf = buf;
    out.view = new DataView(buf.buffer, buf.byteOffset, buf.byteLength);
  }
  out.ipStart = offset;
  out.isFragment = false;
  out.fragmentOffset = 0;
  const version = buf[offset]! >>> 4;
  if (version === 4) return parse4(buf, offset, length, out);
  if (version === 6) return parse6(buf, offset, length, out);
  return 'not-ip';
}

function parse4(buf: Uint8Array, offset: number, length: number, out: IpHeader): IpParseResult {
  if (length < IPV4_HEADER_BYTES) return 'truncated';
  const headerBytes = (buf[offset]! & 0x0f) * 4;
  const totalLength = getU16(buf, offset + 2);
  if (headerBytes < IPV4_HEADER_BYTES || totalLength < headerBytes) return 'bad-ip-header';
  if (totalLength > length) return 'truncated';
  if (sumRange(buf, offset, headerBytes) !== 0xffff) return 'bad-ip-checksum';
  const fragment = getU16(buf, offset + 6);
  out.family = 4;
  out.l4Off = offset + headerBytes;
  out.ipEnd = offset + totalLength;
  out.protocol = buf[offset + 9]!;
  out.srcOff = offset + 12;
  out.dstOff = offset + 16;
  out.dscp = buf[offset + 1]! >>> 2;
  out.ecn = buf[offset + 1]! & 3;
  out.ttl = buf[offset + 8]!;
  if ((fragment & (V4_MORE_FRAGMENTS | V4_FRAGMENT_OFFSET)) !== 0) {
    out.isFragment = true;
    out.fragmentOffset = (fragment & V4_FRAGMENT_OFFSET) * 8;
  }
  return 'ok';
}

function parse6(buf: Uint8Array, offset: number, length: number, out: IpHeader): IpParseResult {
  if (length < IPV6_HEADER_BYTES) return 'truncated';
  const end = offset + IPV6_HEADER_BYTES + getU16(buf, offset + 4);
  if (end > offset + length) return 'truncated';
  out.family = 6;
  out.ipEnd = end;
  out.srcOff = offset + 8;
  out.dstOff = offset + 24;
  const trafficClass = ((buf[offset]! & 0x0f) << 4) | (buf[offset + 1]! >>> 4);
  out.dscp = trafficClass >>> 2;
  out.ecn = trafficClass & 3;
  out.ttl = buf[offset + 7]!;

  let next = buf[offset + 6]!;
  let o = offset + IPV6_HEADER_BYTES;
  for (let i = 0; isExtension(next); i++) {
    if (i === MAX_EXTENSION_HEADERS || o + 8 > end) return 'bad-ip-header';
    // RFC 8200 4.1: hop-by-hop options come first or not at all.
    if (next === EXT_HOP_BY_HOP && i !== 0) return 'bad-ip-header';
    // RFC 8200 4.4, RFC 5095: we are no intermediate node, so segments left must be none.
    if (next === EXT_ROUTING && buf[o + 3] !== 0) return 'bad-ip-header';
    let extensionBytes = (buf[o + 1]! + 1) * 8;
    if (next === EXT_AH) extensionBytes = (buf[o + 1]! + 2) * 4;
    if (next === EXT_FRAGMENT) {
      extensionBytes = 8;
      const field = getU16(buf, o + 2);
      out.fragmentOffset = field & 0xfff8;
      out.isFragment = (field & 0xfff9) !== 0;
    }
    next = buf[o]!;
    o += extensionBytes;
    if (o > end) return 'bad-ip-header';
    if (out.fragmentOffset > 0) break; // what follows is not a header
  }
  out.protocol = next;
  out.l4Off = o;
  return 'ok';
}

function isExtension(nextHeader: number): boolean {
  return (
    nextHeader === EXT_HOP_BY_HOP ||
    nextHeader === EXT_ROUTING ||
    nextHeader === EXT_FRAGMENT ||
    nextHeader === EXT_AH ||
    nextHeader === EXT_DESTINATION
  );
}

/** Bytes of the header that `writeIpHeader` writes. */
export function ipHeaderBytes(family: Family): number {
  return family === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;
}

/** The largest `payloadLength` that one packet can carry. */
export function maxIpPayloadBytes(family: Family): number {
  return family === 4 ? MAX_IP_LENGTH - IPV4_HEADER_BYTES : MAX_IP_LENGTH;
}

/**
 * Writes a header without options for `payloadLength` bytes of `protocol` at `o`; returns its length (20 or 40). IPv4:
 * DF set (RFC 1191), checksum filled in, `ident` as given; IPv6: `flowLabel`, `ident` unused.
 * Throws RangeError for a payload that no packet can carry: the caller's mistake, never the network's.
 */
export function writeIpHeader(
  out: Uint8Array,
  o: number,
  family: Family,
  src: IpAddress,
  dst: IpAddress,
  payloadLength: number,
  protocol: number,
  ecn: number,
  ident: number,
  flowLabel = 0,
): number {
  if (!(payloadLength >= 0 && payloadLength <= maxIpPayloadBytes(family))) {
    throw new RangeError(`no IPv${family} packet carries ${payloadLength} bytes`);
  }
  if (family === 4) {
    const s = src.bytes;
    const d = dst.bytes;
    const totalLength = IPV4_HEADER_BYTES + payloadLength;
    const id = ident & 0xffff;
    const ttlProtocol = (DEFAULT_TTL << 8) | protocol;
    const addresses = getU16(s, 0) + getU16(s, 2) + getU16(d, 0) + getU16(d, 2);
    const sum = foldSum(V4_VERSION_IHL + ecn + totalLength + id + V4_DONT_FRAGMENT + ttlProtocol + addresses);
    putU16(out, o, V4_VERSION_IHL | ecn);
    putU16(out, o + 2, totalLength);
    putU16(out, o + 4, id);
    putU16(out, o + 6, V4_DONT_FRAGMENT);
    putU16(out, o + 8, ttlProtocol);
    putU16(out, o + 10, finishChecksum(sum));
    for (let i = 0; i < 4; i++) {
      out[o + 12 + i] = s[i]!;
      out[o + 16 + i] = d[i]!;
    }
    return IPV4_HEADER_BYTES;
  }
  putU32(out, o, 0x6000_0000 | (ecn << 20) | (flowLabel & 0xf_ffff));
  putU16(out, o + 4, payloadLength);
  out[o + 6] = protocol;
  out[o + 7] = DEFAULT_TTL;
  for (let i = 0; i < 16; i++) {
    out[o + 8 + i] = src.bytes[i]!;
    out[o + 24 + i] = dst.bytes[i]!;
  }
  return IPV6_HEADER_BYTES;
}

/**
 * Folded, uncomplemented sum of the pseudo-header: what VIRTIO_NET_HDR_F_NEEDS_CSUM wants in the checksum field, and
 * the start of a software checksum.
 */
export function pseudoHeaderSum(src: IpAddress, dst: IpAddress, protocol: number, l4Length: number): number {
  const sum = sumRange(dst.bytes, 0, dst.bytes.length, sumRange(src.bytes, 0, src.bytes.length));
  return foldSum(sum + protocol + (l4Length >>> 16) + (l4Length & 0xffff));
}

/** The same for a parsed packet: addresses, protocol and length from `ip`. */
export function pseudoHeaderSumOf(ip: IpHeader): number {
  const l4Length = ip.ipEnd - ip.l4Off;
  // Source and destination are adjacent in both families.
  const sum = sumRange(ip.buf, ip.srcOff, ip.family === 4 ? 8 : 32);
  return foldSum(sum + ip.protocol + (l4Length >>> 16) + (l4Length & 0xffff));
}
