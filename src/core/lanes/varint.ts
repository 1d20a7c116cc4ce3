/** Variable-length integers of RFC 9000 §16, as RFC 9297 §1.1 uses them: 1, 2, 4 or 8 bytes, big-endian. */
import { getU32, putU32 } from '../base/wire-int.js';

const TWO32 = 0x1_0000_0000;

/** Bytes that the varint starting with `first` takes. */
export function varintBytes(first: number): number {
  return 1 << (first >>> 6);
}

/** Bytes that `value` needs. */
export function varintSize(value: number): number {
  return value < 0x40 ? 1 : value < 0x4000 ? 2 : value < 0x4000_0000 ? 4 : 8;
}

/** Reads a whole varint at `o`. Values above 2^53 come out inexact, but are still far above every limit of ours. */
export function readVarint(b: Uint8Array, o: number): number {
  const first = b[o]!;
  switch (first >>> 6) {
    case 0:
      return first;
    case 1:
      return ((first & 0x3f) << 8) | b[o + 1]!;
    case 2:
      return getU32(b, o) & 0x3fff_ffff;
    default:
      return (getU32(b, o) & 0x3fff_ffff) * TWO32 + getU32(b, o + 4);
  }
}

/** Writes the shortest form of `value` at `o` and returns the offset behind it. */
export function writeVarint(b: Uint8Array, o: number, value: number): number {
  if (value < 0x40) {
    b[o] = value;
    return o + 1;
  }
  if (value < 0x4000) {
    b[o] = 0x40 | (value >>> 8);
    b[o + 1] = value;
    return o + 2;
  }
  if (value < 0x4000_0000) {
    putU32(b, o, value);
    b[o] = b[o]! | 0x80;
    return o + 4;
  }
  putU32(b, o, Math.floor(value / TWO32));
  b[o] = b[o]! | 0xc0;
  putU32(b, o + 4, value % TWO32);
  return o + 8;
}
