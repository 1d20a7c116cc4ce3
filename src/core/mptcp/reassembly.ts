/**
 * Data-level reassembly (RFC 8684 3.3.1, 3.3.4): bytes that arrived ahead of rcvNxt, sorted by relative DSN, without
 * overlaps; the first copy of a byte wins. Bytes that continue a piece are copied into its block, which grows, so that a
 * long run of small segments is dense. Memory is bounded by `limitBytes`, counting blocks and an overhead per piece;
 * when full, the newest (highest DSN) pieces make room, because the sender can send those again and the window depends
 * on the lowest. In-order bytes never pass through here, so a full buffer cannot refuse the byte everyone waits for.
 */

/** What one piece costs besides its bytes (typed array, backing store and slot), measured on Node 20. */
export const PIECE_OVERHEAD_BYTES = 256;

/** In the place of what was taken, so that a list which is not yet cut short pins nothing. */
const NO_BYTES = new Uint8Array(0);

/** A block does not grow beyond this: it is handed up, and freed, as a whole. */
const MAX_BLOCK_BYTES = 65_536;

interface Piece {
  readonly dsn: number;
  /** The first `length` bytes of `block` are data. */
  block: Uint8Array;
  length: number;
}

export class Reassembly {
  private pieces: Piece[] = [];
  private head = 0;
  /** Bytes held, and bytes held plus overhead. */
  storedBytes = 0;
  allocatedBytes = 0;
  /** Bytes that arrived more than once, and bytes given up to stay within the limit. */
  duplicateBytes = 0;
  evictedBytes = 0;

  constructor(public limitBytes: number) {}

  get isEmpty(): boolean {
    return this.head === this.pieces.length;
  }

  /** DSN of the first byte held; Infinity if none is. */
  get firstDsn(): number {
    return this.isEmpty ? Number.POSITIVE_INFINITY : this.pieces[this.head]!.dsn;
  }

  /** Copies what is new of the bytes at `dsn`. */
  insert(dsn: number, buf: Uint8Array, offset: number, lengthBytes: number): void {
    let at = this.position(dsn);
    const before = this.storedBytes;
    let from = dsn;
    const end = dsn + lengthBytes;
    if (at > this.head) {
      const prev = this.pieces[at - 1]!;
      from = Math.max(from, prev.dsn + prev.length);
    }
    while (from < end) {
      const next = this.pieces[at];
      const to = next === undefined ? end : Math.min(end, next.dsn);
      if (to > from) {
        if (this.put(at, from, buf.subarray(offset + from - dsn, offset + to - dsn))) at++;
      }
      if (next === undefined) {
        from = to;
        break;
      }
      from = Math.max(to, next.dsn + next.length);
      at++;
    }
    this.duplicateBytes += lengthBytes - (this.storedBytes - before);
    this.evict();
  }

  /** The bytes at `dsn`, if held: removes and returns them, trimmed to start exactly at `dsn`; else null. */
  takeAt(dsn: number): Uint8Array | null {
    while (this.head < this.pieces.length) {
      const piece = this.pieces[this.head]!;
      if (piece.dsn > dsn) return null;
      this.head++;
      this.account(piece, -1);
      this.compact();
      const { block } = piece;
      piece.block = NO_BYTES;
      const end = piece.dsn + piece.length;
      if (end > dsn) {
        const skip = dsn - piece.dsn;
        this.duplicateBytes += skip;
        return block.subarray(skip, piece.length);
      }
      this.duplicateBytes += piece.length;
    }
    return null;
  }

  clear(): void {
    this.pieces = [];
    this.head = 0;
    this.storedBytes = 0;
    this.allocatedBytes = 0;
  }

  /** Stores a copy of `bytes`. False: they went into the piece before `at`; true: they are a new piece at `at`. */
  private put(at: number, dsn: number, bytes: Uint8Array): boolean {
    const prev = at > this.head ? this.pieces[at - 1] : undefined;
    if (prev !== undefined && prev.dsn + prev.length === dsn && prev.length + bytes.length <= MAX_BLOCK_BYTES) {
      this.account(prev, -1);
      if (prev.length + bytes.length > prev.block.length) {
        const block = new Uint8Array(Math.min(MAX_BLOCK_BYTES, 2 * (prev.length + bytes.length)));
        block.set(prev.block.subarray(0, prev.length));
        prev.block = block;
      }
      prev.block.set(bytes, prev.length);
      prev.length += bytes.length;
      this.account(prev, 1);
      return false;
    }
    const piece = { dsn, block: bytes.slice(), length: bytes.length };
    if (at === this.pieces.length) this.pieces.push(piece);
    else this.pieces.splice(at, 0, piece);
    this.account(piece, 1);
    return true;
  }

  private account(piece: Piece, sign: number): void {
    this.storedBytes += sign * piece.length;
    this.allocatedBytes += sign * (piece.block.length + PIECE_OVERHEAD_BYTES);
  }

  private evict(): void {
    while (this.allocatedBytes > this.limitBytes && this.pieces.length > this.head) {
      const piece = this.pieces.pop()!;
      this.account(piece, -1);
      this.evictedBytes += piece.length;
    }
  }

  /** Index of the first piece whose DSN is greater than `dsn`. */
  private position(dsn: number): number {
    const pieces = this.pieces;
    const last = pieces.length - 1;
    if (last < this.head || pieces[last]!.dsn <= dsn) return pieces.length;
    let lo = this.head;
    let hi = last;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (pieces[mid]!.dsn <= dsn) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  }

  private compact(): void {
    if (this.head > 64 && this.head * 2 > this.pieces.length) {
      this.pieces = this.pieces.slice(this.head);
      this.head = 0;
    }
  }
}
