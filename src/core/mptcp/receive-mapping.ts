/**
 * What a subflow knows about the peer's DSS mappings (RFC 8684 3.3.1): which subflow bytes are which data bytes. A
 * mapping may cover many segments of which only one carried it, so mappings are kept until the subflow's rcvNxt has
 * passed them. Bytes that arrived before their mapping wait here, bounded.
 */

/** Mappings kept per subflow; beyond it the segment that brought one more is not accepted (it will come again). */
export const MAX_MAPPINGS = 1024;

export interface InboundMapping {
  readonly ssn: number;
  readonly dsn: number;
  /** Payload bytes that the mapping covers (a DATA_FIN is already taken off). */
  readonly lengthBytes: number;
  /** What the option said (payload + DATA_FIN), and its checksum or -1. */
  readonly dll: number;
  readonly checksum: number;
}

interface HeldBytes {
  readonly seq: number;
  readonly bytes: Uint8Array;
}

export class ReceiveMappings {
  /** Sorted by ssn, not overlapping. */
  private list: InboundMapping[] = [];
  private held: HeldBytes[] = [];
  heldBytes = 0;
  /** Infinite mapping (RFC 8684 3.7): dsn = seq + delta from `infiniteFrom` on; NaN while none. */
  private infiniteDelta = Number.NaN;
  private infiniteFrom = 0;

  get isInfinite(): boolean {
    return !Number.isNaN(this.infiniteDelta);
  }

  setInfinite(ssn: number, dsn: number): void {
    this.infiniteDelta = dsn - ssn;
    this.infiniteFrom = ssn;
  }

  /**
   * Remembers a mapping. 'known' if it was there already, 'conflict' if it contradicts one that was (the old one stays:
   * a mapping never changes), 'full' if the table is full.
   */
  add(
    ssn: number,
    dsn: number,
    lengthBytes: number,
    dll: number,
    checksum: number,
  ): 'added' | 'known' | 'conflict' | 'full' {
    const list = this.list;
    let i = list.length;
    while (i > 0 && list[i - 1]!.ssn > ssn) i--;
    const prev = list[i - 1];
    if (prev !== undefined && ssn < prev.ssn + prev.lengthBytes) {
      const agrees = dsn - ssn === prev.dsn - prev.ssn;
      return agrees && ssn + lengthBytes <= prev.ssn + prev.lengthBytes ? 'known' : 'conflict';
    }
    const next = list[i];
    if (next !== undefined && ssn + lengthBytes > next.ssn) return 'conflict';
    if (list.length >= MAX_MAPPINGS) return 'full';
    list.splice(i, 0, { ssn, dsn, lengthBytes, dll, checksum });
    return 'added';
  }

  /** The mapping that covers subflow byte `seq`, or null. */
  find(seq: number): InboundMapping | null {
    const list = this.list;
    for (let i = list.length - 1; i >= 0; i--) {
      const m = list[i]!;
      if (seq >= m.ssn) return seq < m.ssn + m.lengthBytes ? m : null;
    }
    return null;
  }

  /** DSN of subflow byte `seq` under an infinite mapping, or NaN. */
  infiniteDsn(seq: number): number {
    return seq >= this.infiniteFrom ? seq + this.infiniteDelta : Number.NaN;
  }

  /** Where the next mapping at or after `seq` begins, Infinity if none is known. */
  nextStart(seq: number): number {
    for (const m of this.list) if (m.ssn >= seq) return m.ssn;
    return this.isInfinite ? Math.max(seq, this.infiniteFrom) : Number.POSITIVE_INFINITY;
  }

  /** The subflow received everything below `rcvNxt` in order: mappings wholly below it are over. */
  prune(rcvNxt: number): void {
    let n = 0;
    while (n < this.list.length && this.list[n]!.ssn + this.list[n]!.lengthBytes <= rcvNxt) n++;
    if (n > 0) this.list.splice(0, n);
  }

  /** Keeps a copy of bytes whose mapping is not known yet. False when `limitBytes` is exceeded (then nothing is kept). */
  hold(seq: number, buf: Uint8Array, offset: number, lengthBytes: number, limitBytes: number): boolean {
    if (this.heldBytes + lengthBytes > limitBytes) return false;
    this.held.push({ seq, bytes: buf.slice(offset, offset + lengthBytes) });
    this.heldBytes += lengthBytes;
    return true;
  }

  /** Takes out everything held, for another attempt now that a mapping came. */
  takeHeld(): HeldBytes[] {
    if (this.held.length === 0) return this.held;
    const held = this.held;
    this.held = [];
    this.heldBytes = 0;
    return held;
  }
}
