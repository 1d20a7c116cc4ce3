/**
 * The connection's send buffer: the bytes that were written, by reference, addressed by relative DSN. Nothing is copied;
 * a unit handed to a subflow is a list of the same chunks. Chunks are forgotten here once DATA_ACKed; a subflow that
 * still has to retransmit them keeps its own references (RFC 8684 3.3.2: both acknowledgments are needed before bytes
 * are freed), so a dead path pins what it carries and nothing else.
 */
import type { SendUnit } from '../tcp/owner.js';

/** A unit never has more slices than this: small writes then make shorter units instead of long lists. */
export const MAX_UNIT_PARTS = 32;

export interface DataUnit {
  parts: Uint8Array[];
  firstOffset: number;
  lengthBytes: number;
}

interface Chunk {
  readonly dsn: number;
  bytes: Uint8Array;
}

/** In the place of what was DATA_ACKed, so that a list which is not yet cut short pins nothing. */
const NO_BYTES = new Uint8Array(0);

export class SendBuffer {
  private chunks: Chunk[] = [];
  /** Chunks before this index were DATA_ACKed. */
  private head = 0;
  /** Chunk of the last `take`, where the next one usually goes on. */
  private cursor = 0;
  /** DSN behind the last byte written. */
  endDsn: number;
  /** First DSN still held. */
  startDsn: number;

  constructor(firstDsn: number) {
    this.endDsn = firstDsn;
    this.startDsn = firstDsn;
  }

  append(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.chunks.push({ dsn: this.endDsn, bytes });
    this.endDsn += bytes.length;
  }

  /** Puts bytes before all others, of which none has been taken yet. */
  prepend(bytes: Uint8Array): void {
    const rest = this.chunks;
    this.chunks = [];
    this.endDsn = this.startDsn;
    this.append(bytes);
    for (const chunk of rest) this.append(chunk.bytes);
  }

  /** References to at most `maxBytes` from `dsn` on (which is held). Shorter where MAX_UNIT_PARTS is reached. */
  take(dsn: number, maxBytes: number): DataUnit {
    let i = this.locate(dsn);
    const first = this.chunks[i]!;
    const firstOffset = dsn - first.dsn;
    const wanted = Math.min(maxBytes, this.endDsn - dsn);
    const parts: Uint8Array[] = [first.bytes];
    let have = first.bytes.length - firstOffset;
    while (have < wanted && parts.length < MAX_UNIT_PARTS) {
      const next = this.chunks[++i]!;
      parts.push(next.bytes);
      have += next.bytes.length;
    }
    this.cursor = i;
    return { parts, firstOffset, lengthBytes: Math.min(have, wanted) };
  }

  /** Everything below `dsn` is DATA_ACKed. */
  free(dsn: number): void {
    if (dsn <= this.startDsn) return;
    this.startDsn = Math.min(dsn, this.endDsn);
    const chunks = this.chunks;
    while (this.head < chunks.length && chunks[this.head]!.dsn + chunks[this.head]!.bytes.length <= dsn) {
      chunks[this.head++]!.bytes = NO_BYTES;
    }
    if (this.head > 64 && this.head * 2 > chunks.length) {
      this.chunks = chunks.slice(this.head);
      this.cursor = Math.max(0, this.cursor - this.head);
      this.head = 0;
    }
  }

  private locate(dsn: number): number {
    const chunks = this.chunks;
    for (let i = this.cursor; i <= this.cursor + 1 && i < chunks.length; i++) {
      const c = chunks[i]!;
      if (i >= this.head && dsn >= c.dsn && dsn < c.dsn + c.bytes.length) return i;
    }
    let lo = this.head;
    let hi = chunks.length - 1;
    while (lo < hi) {
      const mid = (lo + hi + 1) >> 1;
      if (chunks[mid]!.dsn <= dsn) lo = mid;
      else hi = mid - 1;
    }
    return lo;
  }
}

/**
 * Our DSS mapping of one unit, and the `tag` TCP keeps with its bytes. Immutable once sent (RFC 8684 3.3.1); fragments
 * that TCP makes of the unit share it.
 */
export interface OutboundMapping {
  /** Relative DSN and SSN of the first byte, and length: what the DSS option says. */
  readonly dsn: number;
  readonly ssn: number;
  readonly dll: number;
  /** DSS checksum, -1 when not negotiated. */
  readonly checksum: number;
  /** Sent with MP_CAPABLE + data while the handshake is unproven (RFC 8684 3.1). */
  readonly isFirst: boolean;
  /** The bytes were sent on another subflow before. */
  readonly isReinjection: boolean;
}

export function toSendUnit(unit: DataUnit, mapping: OutboundMapping): SendUnit {
  return { lengthBytes: unit.lengthBytes, parts: unit.parts, firstOffset: unit.firstOffset, tag: mapping };
}
