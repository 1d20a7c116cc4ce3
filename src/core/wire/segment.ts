/**
 * One received TCP segment, parsed in place: a reusable view over the packet's bytes plus the decoded header and
 * options. Filled by `parseSegment`; valid only until the next call. Nothing here is relative yet: numbers are as on
 * the wire. (RFC 9293 3.1, RFC 7323, RFC 2018, RFC 8684.)
 */
import { MptcpOptions } from './mptcp-options.js';

export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_URG = 0x20;
export const TCP_ECE = 0x40;
export const TCP_CWR = 0x80;

export class SegmentView {
  buf: Uint8Array = new Uint8Array(0);
  family: 4 | 6 = 4;
  /** Offsets of the addresses in `buf` (4 or 16 bytes each, by `family`). */
  srcOff = 0;
  dstOff = 0;
  /** IP ECN field, 0..3 (3 = CE). */
  ecn = 0;
  /** IP TTL or hop limit. */
  ttl = 0;

  srcPort = 0;
  dstPort = 0;
  /** Unsigned 32-bit, as on the wire. */
  seq = 0;
  ack = 0;
  flags = 0;
  /** Raw 16-bit field, not scaled. */
  window = 0;
  urgent = 0;

  // Options; -1 or false when absent.
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

  payloadOff = 0;
  payloadLen = 0;
  /** > 0: the packet is a GRO/TSO super-packet of this segment size (the last may be shorter); 0: one segment. */
  gsoSize = 0;
}
