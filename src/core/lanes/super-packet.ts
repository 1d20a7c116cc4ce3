/**
 * Cutting TCP super-packets (DESIGN 3.3). A piece has the original's headers with sequence number, lengths, IPv4
 * identification and flags as kernel TSO would have made them: FIN and PSH only on the last, CWR only on the first
 * (RFC 3168 §6.1.2). TCP checksums stay unfinished: the far end makes them (inner-check.ts).
 */
import { getU16, getU32, putU16, putU32 } from '../base/wire-int.js';
import { finishChecksum, sumRange } from '../wire/checksum.js';
import type { InnerView } from './inner-packet.js';

const TCP_FIN = 0x01;
const TCP_PSH = 0x08;
const TCP_CWR = 0x80;

/** Payload bytes per piece so that no piece is over `maxPacketBytes`: whole segments, at least one. */
export function pieceBytes(v: InnerView, gsoSize: number, maxPacketBytes: number): number {
  return Math.max(1, Math.floor((maxPacketBytes - v.headerBytes) / gsoSize)) * gsoSize;
}

/**
 * Makes the headers at out[at..] those of the piece whose payload is [from, from + count) of the original's, where
 * `segmentIndex` segments of the original come before it. The bytes there must already be the original's headers.
 */
export function rewriteHeaders(
  out: Uint8Array,
  at: number,
  v: InnerView,
  from: number,
  count: number,
  segmentIndex: number,
): void {
  const total = v.headerBytes + count;
  if (v.family === 4) {
    putU16(out, at + 2, total);
    putU16(out, at + 4, (getU16(out, at + 4) + segmentIndex) & 0xffff);
    putU16(out, at + 10, 0);
    putU16(out, at + 10, finishChecksum(sumRange(out, at, v.l4Offset)));
  } else {
    putU16(out, at + 4, total - 40);
  }
  const tcp = at + v.l4Offset;
  putU32(out, tcp + 4, (getU32(out, tcp + 4) + from) >>> 0);
  let flags = out[tcp + 13]!;
  if (from > 0) flags &= ~TCP_CWR;
  if (from + count < v.totalBytes - v.headerBytes) flags &= ~(TCP_FIN | TCP_PSH);
  out[tcp + 13] = flags;
}

/**
 * Takes the first segment off a super-packet in place: the headers move up against what is left, at `o` + gsoSize.
 * `v` describes the packet before, and afterwards.
 */
export function dropFirstSegment(b: Uint8Array, o: number, v: InnerView, gsoSize: number): void {
  const at = o + gsoSize;
  b.copyWithin(at, o, o + v.headerBytes);
  rewriteHeaders(b, at, v, gsoSize, v.totalBytes - v.headerBytes - gsoSize, 1);
  v.totalBytes -= gsoSize;
  v.tcpSeq = (v.tcpSeq + gsoSize) >>> 0;
}
