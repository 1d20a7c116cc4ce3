/**
 * One received TCP segment, parsed in place: a reusable view over the packet's bytes plus the decoded header and
 * options. Filled by `parseSegment`; valid only until the next call. Nothing here is relative yet: numbers are as on
 * the wire. (RFC 9293 3.1, RFC 7323, RFC 2018, RFC 8684.)
 */
import { sumRange } from './checksum.js';
import { IpHeader, type IpParseResult, PROTO_TCP, parseIpHeader, pseudoHeaderSumOf } from './ip.js';
import { MPTCP_KIND, MptcpOptions, parseMptcpOption } from './mptcp-options.js';
import {
  OPT_EOL,
  OPT_MSS,
  OPT_NOP,
  OPT_SACK,
  OPT_SACK_PERMITTED,
  OPT_TIMESTAMPS,
  OPT_WSCALE,
  TCP_HEADER_BYTES,
} from './tcp.js';

export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_URG = 0x20;
export const TCP_ECE = 0x40;
export const TCP_CWR = 0x80;

/** Why a packet is not a TCP segment that we can use; the names are drop reasons in events and counters. */
export type ParseResult = IpParseResult | 'fragment' | 'not-tcp' | 'bad-tcp-header';

export class SegmentView extends IpHeader {
  srcPort = 0;
  dstPort = 0;
  /** Unsigned 32-bit, as on the wire. */
  seq = 0;
  ack = 0;
  flags = 0;
  /** Raw 16-bit field, not scaled. */
  window = 0;
  urgent = 0;

  // Options; -1 or false when absent. MSS, window scale and SACK-permitted count on a SYN only.
  mss = -1;
  wscale = -1;
  sackPermitted = false;
  hasTs = false;
  tsVal = 0;
  tsEcr = 0;
  sackCount = 0;
  /** SACK block edges as on the wire; `sackCount` of them. */
  readonly sackLeft = new Uint32Array(4);
  readonly sackRight = new Uint32Array(4);
  readonly mptcp = new MptcpOptions();
  /** An option's length ran out of the header: what came before it counts, the rest was ignored. */
  hasBadOptions = false;

  payloadOff = 0;
  payloadLen = 0;
  /** > 0: the packet is a GRO/TSO super-packet of this segment size (the last may be shorter); 0: one segment. */
  gsoSize = 0;
}

/**
 * Parses the IPv4 or IPv6 packet in the `length` bytes at `offset`. Total: any bytes give 'ok' or a named reason, and
 * after anything but 'ok' `out` is not to be used. The TCP checksum is checked apart (`verifyTcpChecksum`).
 */
export function parseSegment(
  buf: Uint8Array,
  offset: number,
  length: number,
  gsoSize: number,
  out: SegmentView,
): ParseResult {
  const ip = parseIpHeader(buf, offset, length, out);
  if (ip !== 'ok') return ip;
  if (out.isFragment) return 'fragment';
  if (out.protocol !== PROTO_TCP) return 'not-tcp';

  const view = out.view;
  const tcp = out.l4Off;
  if (tcp + TCP_HEADER_BYTES > out.ipEnd) return 'bad-tcp-header';
  const headerBytes = (buf[tcp + 12]! >>> 4) * 4;
  if (headerBytes < TCP_HEADER_BYTES || tcp + headerBytes > out.ipEnd) return 'bad-tcp-header';
  out.srcPort = view.getUint16(tcp);
  out.dstPort = view.getUint16(tcp + 2);
  out.seq = view.getUint32(tcp + 4);
  out.ack = view.getUint32(tcp + 8);
  out.flags = buf[tcp + 13]!;
  out.window = view.getUint16(tcp + 14);
  out.urgent = view.getUint16(tcp + 18);
  out.payloadOff = tcp + headerBytes;
  out.payloadLen = out.ipEnd - out.payloadOff;
  out.gsoSize = gsoSize;
  parseOptions(buf, tcp + TCP_HEADER_BYTES, out.payloadOff, out);
  return 'ok';
}

/** True if the TCP checksum of a parsed segment is right. Call it only where nobody else has checked it. */
export function verifyTcpChecksum(buf: Uint8Array, view: SegmentView): boolean {
  return sumRange(buf, view.l4Off, view.ipEnd - view.l4Off, pseudoHeaderSumOf(view)) === 0xffff;
}

/**
 * RFC 9293 3.2 (MUST-5, 6, 7): unknown options are stepped over; a length that cannot be ends the walk. A known kind with
 * a wrong length is ignored.
 */
function parseOptions(buf: Uint8Array, start: number, end: number, out: SegmentView): void {
  out.mss = -1;
  out.wscale = -1;
  out.sackPermitted = false;
  out.hasTs = false;
  out.sackCount = 0;
  out.hasBadOptions = false;
  out.mptcp.clear();
  const view = out.view;
  const isSyn = (out.flags & TCP_SYN) !== 0;
  let o = start;
  while (o < end) {
    const kind = buf[o]!;
    if (kind === OPT_NOP) {
      o++;
      continue;
    }
    if (kind === OPT_EOL) return;
    const length = o + 1 < end ? buf[o + 1]! : 0;
    if (length < 2 || o + length > end) {
      out.hasBadOptions = true;
      return;
    }
    if (kind === OPT_TIMESTAMPS) {
      if (length === 10 && !out.hasTs) {
        out.hasTs = true;
        out.tsVal = view.getUint32(o + 2);
        out.tsEcr = view.getUint32(o + 6);
      }
    } else if (kind === MPTCP_KIND) {
      parseMptcpOption(buf, o, length, out.mptcp);
    } else if (kind === OPT_SACK) {
      parseSack(view, o, length, out);
    } else if (isSyn) {
      if (kind === OPT_MSS && length === 4) out.mss = view.getUint16(o + 2);
      else if (kind === OPT_WSCALE && length === 3) out.wscale = buf[o + 2]!;
      else if (kind === OPT_SACK_PERMITTED && length === 2) out.sackPermitted = true;
    }
    o += length;
  }
}

/** Length of the first option of this kind in the segment's header, -1: none. For options of SYNs that few ask for. */
export function optionLength(seg: SegmentView, kind: number): number {
  const { buf, payloadOff: end } = seg;
  let o = seg.l4Off + TCP_HEADER_BYTES;
  while (o + 1 < end && buf[o] !== OPT_EOL) {
    const length = buf[o] === OPT_NOP ? 1 : buf[o + 1]!;
    if (buf[o] === kind) return length;
    if (length < 1 || (length < 2 && buf[o] !== OPT_NOP)) return -1;
    o += length;
  }
  return -1;
}

/** RFC 2018 3: one to four blocks of two edges. */
function parseSack(view: DataView, o: number, length: number, out: SegmentView): void {
  const count = (length - 2) >>> 3;
  if (length !== 2 + 8 * count || count > out.sackLeft.length) return;
  for (let i = 0; i < count; i++) {
    out.sackLeft[i] = view.getUint32(o + 2 + 8 * i);
    out.sackRight[i] = view.getUint32(o + 6 + 8 * i);
  }
  out.sackCount = count;
}
