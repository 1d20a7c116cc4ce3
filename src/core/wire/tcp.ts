/**
 * Writing TCP headers (RFC 9293 3.1) with the options of RFC 7323 (window scale, timestamps) and RFC 2018 (SACK). Every
 * writer emits at `o` and returns the offset behind; `finishTcpHeader` pads and sets the data offset. Offsets, not
 * objects: nothing here allocates.
 */
import { putU16, putU32 } from '../base/wire-int.js';

export const TCP_HEADER_BYTES = 20;
export const TCP_MAX_HEADER_BYTES = 60;
/** Offset of the checksum field in the header. */
export const TCP_CHECKSUM_OFFSET = 16;

export const OPT_EOL = 0;
export const OPT_NOP = 1;
export const OPT_MSS = 2;
export const OPT_WSCALE = 3;
export const OPT_SACK_PERMITTED = 4;
export const OPT_SACK = 5;
export const OPT_TIMESTAMPS = 8;
/** RFC 7413 2. */
export const OPT_FAST_OPEN = 34;

// Bytes that each writer emits.
export const MSS_BYTES = 4;
export const WSCALE_BYTES = 3;
export const SACK_PERMITTED_BYTES = 2;
export const TIMESTAMPS_BARE_BYTES = 10;
export const TIMESTAMPS_BYTES = 12;
/** putSackBlocks: this plus 8 per block. */
export const SACK_BASE_BYTES = 4;

/** The fixed 20 bytes; checksum and urgent pointer are zero. `seq` and `ack` are unsigned 32-bit, `window` the raw field. */
export function writeTcpHeader(
  out: Uint8Array,
  o: number,
  srcPort: number,
  dstPort: number,
  seq: number,
  ack: number,
  flags: number,
  window: number,
): number {
  putU16(out, o, srcPort);
  putU16(out, o + 2, dstPort);
  putU32(out, o + 4, seq);
  putU32(out, o + 8, ack);
  out[o + 12] = 0x50;
  out[o + 13] = flags;
  putU16(out, o + 14, window);
  putU32(out, o + 16, 0);
  return o + TCP_HEADER_BYTES;
}

export function putNop(out: Uint8Array, o: number): number {
  out[o] = OPT_NOP;
  return o + 1;
}

export function putMss(out: Uint8Array, o: number, mssBytes: number): number {
  out[o] = OPT_MSS;
  out[o + 1] = 4;
  putU16(out, o + 2, mssBytes);
  return o + MSS_BYTES;
}

export function putWscale(out: Uint8Array, o: number, shift: number): number {
  out[o] = OPT_WSCALE;
  out[o + 1] = 3;
  out[o + 2] = shift;
  return o + WSCALE_BYTES;
}

export function putSackPermitted(out: Uint8Array, o: number): number {
  out[o] = OPT_SACK_PERMITTED;
  out[o + 1] = 2;
  return o + SACK_PERMITTED_BYTES;
}

/**
 * Options of a SYN or SYN/ACK: MSS, SACK-permitted, timestamps, window scale, each aligned so that together they take 20
 * bytes. `mssBytes` or `wscale` -1: left out.
 */
export function putSynOptions(
  out: Uint8Array,
  o: number,
  mssBytes: number,
  sack: boolean,
  timestamps: boolean,
  tsVal: number,
  tsEcr: number,
  wscale: number,
): number {
  let at = mssBytes >= 0 ? putMss(out, o, mssBytes) : o;
  if (timestamps) {
    // SACK-permitted takes the place of the NOPs before the timestamps: 12 bytes together.
    at = sack ? putSackPermitted(out, at) : putNop(out, putNop(out, at));
    at = putTimestampsBare(out, at, tsVal, tsEcr);
  } else if (sack) {
    at = putSackPermitted(out, putNop(out, putNop(out, at)));
  }
  return wscale >= 0 ? putWscale(out, putNop(out, at), wscale) : at;
}

/** Timestamps behind two NOPs (RFC 7323 appendix A): 12 bytes. */
export function putTimestamps(out: Uint8Array, o: number, tsVal: number, tsEcr: number): number {
  out[o] = OPT_NOP;
  out[o + 1] = OPT_NOP;
  return putTimestampsBare(out, o + 2, tsVal, tsEcr);
}

/** Timestamps without NOPs: behind SACK-permitted in a SYN, 12 bytes together. */
export function putTimestampsBare(out: Uint8Array, o: number, tsVal: number, tsEcr: number): number {
  out[o] = OPT_TIMESTAMPS;
  out[o + 1] = 10;
  putU32(out, o + 2, tsVal);
  putU32(out, o + 6, tsEcr);
  return o + TIMESTAMPS_BARE_BYTES;
}

/**
 * What timestamps take beside `otherBytes` of options: without the NOPs (which RFC 7323 appendix A recommends for processors
 * that are slow on unaligned words) where that shortens the header.
 */
export function timestampsBytesBeside(otherBytes: number): number {
  const rest = otherBytes & 3;
  return rest === 1 || rest === 2 ? TIMESTAMPS_BARE_BYTES : TIMESTAMPS_BYTES;
}

/** `count` SACK blocks behind two NOPs: 4 + 8 * count bytes. Edges are unsigned 32-bit wire numbers. */
export function putSackBlocks(
  out: Uint8Array,
  o: number,
  left: ArrayLike<number>,
  right: ArrayLike<number>,
  count: number,
): number {
  out[o] = OPT_NOP;
  out[o + 1] = OPT_NOP;
  out[o + 2] = OPT_SACK;
  out[o + 3] = 2 + 8 * count;
  let at = o + SACK_BASE_BYTES;
  for (let i = 0; i < count; i++) {
    putU32(out, at, left[i]!);
    putU32(out, at + 4, right[i]!);
    at += 8;
  }
  return at;
}

/**
 * Pads the options that end at `end` with NOPs to a multiple of 4 (EOL would hide nothing, and some middleboxes dislike
 * bytes behind it), sets the data offset of the header at `start`, and returns the header length.
 * Throws RangeError above 60 bytes: the caller's mistake.
 */
export function finishTcpHeader(out: Uint8Array, start: number, end: number): number {
  let o = end;
  while (((o - start) & 3) !== 0) out[o++] = OPT_NOP;
  const headerBytes = o - start;
  if (headerBytes > TCP_MAX_HEADER_BYTES) throw new RangeError(`TCP header of ${headerBytes} bytes`);
  out[start + 12] = headerBytes << 2;
  return headerBytes;
}

/** Writes the checksum field of the header at `start`: a finished checksum, or a pseudo-header sum for offload. */
export function putTcpChecksum(out: Uint8Array, start: number, value: number): void {
  putU16(out, start + TCP_CHECKSUM_OFFSET, value);
}
