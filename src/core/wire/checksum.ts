/**
 * The Internet checksum (RFC 1071, RFC 1624). Everywhere here a "sum" is the 16-bit one's complement sum of big-endian
 * words, folded and *not* complemented; `finishChecksum` turns it into what goes on the wire.
 */

/**
 * Adds `length` bytes at `offset` to `sum`, as if the range began at an even position; an odd last byte is the high half
 * of a word. Bytes at even and odd places are added up apart and joined at the end: pure additions in the loop.
 */
export function sumRange(buf: Uint8Array, offset: number, length: number, sum = 0): number {
  let total = sum;
  let o = offset;
  const end = offset + length;
  while (o < end) {
    // At most 2^20 bytes per round keeps each accumulator below 2^27 (a small integer).
    const stop = end - o > 0x10_0000 ? o + 0x10_0000 : end;
    let high = 0;
    let low = 0;
    for (const last = stop - 16; o <= last; o += 16) {
      high +=
        buf[o]! + buf[o + 2]! + buf[o + 4]! + buf[o + 6]! + buf[o + 8]! + buf[o + 10]! + buf[o + 12]! + buf[o + 14]!;
      low +=
        buf[o + 1]! +
        buf[o + 3]! +
        buf[o + 5]! +
        buf[o + 7]! +
        buf[o + 9]! +
        buf[o + 11]! +
        buf[o + 13]! +
        buf[o + 15]!;
    }
    for (; o + 1 < stop; o += 2) {
      high += buf[o]!;
      low += buf[o + 1]!;
    }
    if (o < stop) high += buf[o++]!;
    // Times 256 is a rotation by one byte in one's complement arithmetic (RFC 1071 2(B)).
    total = foldSum(total + swapBytes(foldSum(high)) + foldSum(low));
  }
  return total;
}

/** Adds the 16-bit word `word` to `sum`. */
export function sumWord(sum: number, word: number): number {
  const s = sum + word;
  return (s & 0xffff) + (s >>> 16);
}

/** Folds a sum below 2^32 to 16 bits. */
export function foldSum(sum: number): number {
  let s = (sum & 0xffff) + (sum >>> 16);
  s = (s & 0xffff) + (s >>> 16);
  return s;
}

/** The checksum field for a sum: its complement. */
export function finishChecksum(sum: number): number {
  return ~sum & 0xffff;
}

/** A sum over byte runs of any length, odd ones included, in the order of `add`. Reusable. */
export class RunningSum {
  private total = 0;
  private isOdd = false;

  /** Starts again, from a sum of what precedes (an even number of bytes). */
  reset(sum = 0): this {
    this.total = sum;
    this.isOdd = false;
    return this;
  }

  add(buf: Uint8Array, offset: number, length: number): this {
    const sum = sumRange(buf, offset, length);
    this.total = sumWord(this.total, this.isOdd ? swapBytes(sum) : sum);
    if ((length & 1) === 1) this.isOdd = !this.isOdd;
    return this;
  }

  /** The folded sum so far. */
  get sum(): number {
    return this.total;
  }
}

/** The sum of `length` bytes that begin `skip` bytes into the concatenation of `parts`. Fewer bytes there: all of them. */
export function sumParts(parts: readonly Uint8Array[], skip: number, length: number, sum = 0): number {
  const running = scratch.reset(sum);
  let toSkip = skip;
  let left = length;
  for (let i = 0; i < parts.length && left > 0; i++) {
    const part = parts[i]!;
    if (toSkip >= part.length) {
      toSkip -= part.length;
      continue;
    }
    const take = Math.min(part.length - toSkip, left);
    running.add(part, toSkip, take);
    toSkip = 0;
    left -= take;
  }
  return running.sum;
}

/** RFC 1624 eqn. 3: checksum field `check` after one covered word changed from `oldWord` to `newWord`. */
export function updateChecksum(check: number, oldWord: number, newWord: number): number {
  return finishChecksum(foldSum((~check & 0xffff) + (~oldWord & 0xffff) + newWord));
}

function swapBytes(word: number): number {
  return ((word << 8) & 0xff00) | (word >>> 8);
}

const scratch = new RunningSum();
