/**
 * With DSS checksums negotiated, a mapping's bytes may go up only when all of them are here and the checksum is right
 * (RFC 8684 3.3.1). One assembly per open mapping, filled in any order.
 */
import type { InboundMapping } from './receive-mapping.js';

export class ChecksumAssembly {
  readonly bytes: Uint8Array;
  /** Sorted, disjoint [start, end) of bytes present. */
  private readonly present: number[] = [];

  constructor(readonly mapping: InboundMapping) {
    this.bytes = new Uint8Array(mapping.lengthBytes);
  }

  /** Stores bytes at `at` within the mapping; the first copy wins. True when the mapping is complete. */
  put(at: number, buf: Uint8Array, offset: number, lengthBytes: number): boolean {
    const p = this.present;
    let from = at;
    const end = at + lengthBytes;
    let i = 0;
    while (from < end) {
      while (i < p.length && p[i + 1]! < from) i += 2;
      const touches = i < p.length && p[i]! <= from;
      if (touches) {
        if (p[i + 1]! >= end) break;
        from = Math.max(from, p[i + 1]!);
      }
      const nextStart = touches ? (p[i + 2] ?? Number.POSITIVE_INFINITY) : (p[i] ?? Number.POSITIVE_INFINITY);
      const to = Math.min(end, nextStart);
      this.bytes.set(buf.subarray(offset + from - at, offset + to - at), from);
      if (touches) p[i + 1] = to;
      else p.splice(i, 0, from, to);
      if (p[i + 2] === p[i + 1]) p.splice(i + 1, 2);
      from = to;
    }
    return this.isComplete;
  }

  /** Calls `fn` with each range of bytes that is here, within the mapping. */
  forEachPresent(fn: (from: number, to: number) => void): void {
    for (let i = 0; i < this.present.length; i += 2) fn(this.present[i]!, this.present[i + 1]!);
  }

  get isComplete(): boolean {
    return this.present.length === 2 && this.present[0] === 0 && this.present[1] === this.bytes.length;
  }
}
