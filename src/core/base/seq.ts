/**
 * Sequence numbers are unwrapped at the door and wrapped again on emit (DESIGN 3.1). Inside the core a subflow sequence
 * number is a plain integer relative to the initial one (SYN = 0, first byte = 1: exactly RFC 8684's SSN), and a data
 * sequence number is relative to the IDSN (MP_CAPABLE SYN = 0, first byte = 1). So `<` is just `<`.
 */

const TWO32 = 0x1_0000_0000;

/** The absolute number nearest to `near` whose low 32 bits, added to `base`, are `wire`. */
export function unwrap32(wire: number, base: number, near: number): number {
  // (wire - base - near) mod 2^32 as a signed 32-bit distance; `near` may exceed 2^32, so reduce it first.
  const distance = (wire - base - (near % TWO32)) | 0;
  return near + distance;
}

/** The wire form of relative number `rel` for initial number `base`. */
export function wrap32(rel: number, base: number): number {
  return (base + (rel % TWO32)) >>> 0;
}

/** A 64-bit number as two unsigned 32-bit halves: keys, IDSNs and DSNs never become BigInt. */
export interface U64 {
  readonly hi: number;
  readonly lo: number;
}

/** DSN (hi, lo) relative to the IDSN, or NaN where the distance is not a safe non-negative integer. */
export function relativeDsn(hi: number, lo: number, idsn: U64): number {
  let dLo = lo - idsn.lo;
  let dHi = hi - idsn.hi;
  if (dLo < 0) {
    dLo += TWO32;
    dHi -= 1;
  }
  if (dHi < 0) dHi += TWO32;
  return dHi < 0x20_0000 ? dHi * TWO32 + dLo : Number.NaN;
}

/** High half on the wire of relative DSN `rel`. */
export function dsnHi(rel: number, idsn: U64): number {
  const carry = (rel % TWO32) + idsn.lo >= TWO32 ? 1 : 0;
  return (idsn.hi + Math.floor(rel / TWO32) + carry) >>> 0;
}

/** Low half on the wire of relative DSN `rel`. */
export function dsnLo(rel: number, idsn: U64): number {
  return (idsn.lo + (rel % TWO32)) >>> 0;
}
