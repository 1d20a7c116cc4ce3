/**
 * A set of disjoint half-open integer ranges [start, end), kept sorted and merged: what a receiver has above its
 * cumulative point. Few ranges are the rule, so arrays with binary search beat any tree.
 */
export class RangeSet {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  get count(): number {
    return this.#starts.length;
  }

  get isEmpty(): boolean {
    return this.#starts.length === 0;
  }

  /** End of the highest range; `otherwise` if there is none. */
  maxEnd(otherwise: number): number {
    return this.#ends.length > 0 ? this.#ends[this.#ends.length - 1]! : otherwise;
  }

  startAt(i: number): number {
    return this.#starts[i]!;
  }

  endAt(i: number): number {
    return this.#ends[i]!;
  }

  /** Index of the range that contains `x`, or -1. */
  indexOf(x: number): number {
    const i = this.#firstEndAbove(x);
    return i < this.#starts.length && this.#starts[i]! <= x ? i : -1;
  }

  /** Every integer of [start, end) is in the set. */
  covers(start: number, end: number): boolean {
    const i = this.indexOf(start);
    return i >= 0 && this.#ends[i]! >= end;
  }

  /** [start, end) overlaps or adjoins a range, so that adding it opens no new one. */
  touches(start: number, end: number): boolean {
    const i = this.#firstEndAtLeast(start);
    return i < this.#starts.length && this.#starts[i]! <= end;
  }

  /** Adds [start, end), start < end, merging what overlaps or adjoins. */
  add(start: number, end: number): void {
    const from = this.#firstEndAtLeast(start);
    let to = from;
    let mergedStart = start;
    let mergedEnd = end;
    while (to < this.#starts.length && this.#starts[to]! <= end) {
      mergedStart = Math.min(mergedStart, this.#starts[to]!);
      mergedEnd = Math.max(mergedEnd, this.#ends[to]!);
      to++;
    }
    if (to === from + 1) {
      this.#starts[from] = mergedStart;
      this.#ends[from] = mergedEnd;
    } else {
      this.#starts.splice(from, to - from, mergedStart);
      this.#ends.splice(from, to - from, mergedEnd);
    }
  }

  /** Removes everything below `x`. */
  removeBelow(x: number): void {
    const n = this.#firstEndAbove(x);
    if (n > 0) {
      this.#starts.splice(0, n);
      this.#ends.splice(0, n);
    }
    if (this.#starts.length > 0 && this.#starts[0]! < x) this.#starts[0] = x;
  }

  clear(): void {
    this.#starts.length = 0;
    this.#ends.length = 0;
  }

  #firstEndAbove(x: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const mid = (low + high) >>> 1;
      if (this.#ends[mid]! > x) high = mid;
      else low = mid + 1;
    }
    return low;
  }

  #firstEndAtLeast(x: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const mid = (low + high) >>> 1;
      if (this.#ends[mid]! >= x) high = mid;
      else low = mid + 1;
    }
    return low;
  }
}
