/**
 * The capsule protocol, RFC 9297 §3.2: { type varint, length varint, value }. The decoder takes arbitrary chunks and
 * hands out whole values as references into those chunks; nothing big is copied. Encoding is a header in front of bytes
 * that the caller has anyway.
 */
import { readVarint, varintBytes, varintSize, writeVarint } from './varint.js';

/** RFC 9297 §3.5. */
export const CAPSULE_DATAGRAM = 0x00;
/** RFC 9484 §4.7. */
export const CAPSULE_ADDRESS_ASSIGN = 0x01;
export const CAPSULE_ADDRESS_REQUEST = 0x02;
export const CAPSULE_ROUTE_ADVERTISEMENT = 0x03;
/**
 * Ours: what each end wishes of the other's sending (see policy.ts). Of the form 0x29 * N + 0x17, which RFC 9297 §5.4
 * keeps free of meaning for ever, so every standard peer skips it. N = 0x6d70, "mp".
 */
export const CAPSULE_POLICY = 0x29 * 0x6d70 + 0x17;

/** Ours as well: the same of single connections (flow-modes.ts). N = 0x6d71. */
export const CAPSULE_FLOW_MODES = 0x29 * 0x6d71 + 0x17;

/** Context of RFC 9484 §6: one IP packet, whole and with finished checksums. */
export const CONTEXT_IP = 0;
/**
 * Ours, agreed by header (DESIGN 3.3): u16 gso_size, then an IPv4 or IPv6 packet holding TCP or UDP whose L4 checksum is unfinished: the
 * receiver makes it. gso_size > 0: a TCP super-packet with segments of that many payload bytes. Even, so the client's.
 */
export const CONTEXT_SUPER = 2;

/** Room to leave in front of a packet for `writeDatagramHeader`: type 1, length 4, context 1, gso_size 2. */
export const DATAGRAM_HEADER_BYTES = 8;
/** No inner packet is longer than an IPv4 or a non-jumbo IPv6 packet can be. */
const MAX_DATAGRAM_BYTES = 40 + 65_535 + 8 + 2;
/** Longest control capsule that is read; longer ones end the stream. */
export const MAX_CONTROL_BYTES = 16_384;
/** A value in more pieces than this is gathered into one block, so that a drip of bytes cannot pin many chunks. */
const MAX_PARTS = 12;

/** Writes the header of a DATAGRAM capsule so that it ends at `end`; returns where it begins. `gsoSize` -1: context 0. */
export function writeDatagramHeader(b: Uint8Array, end: number, packetBytes: number, gsoSize: number): number {
  const valueBytes = gsoSize < 0 ? packetBytes + 1 : packetBytes + 3;
  const start = end - datagramHeaderBytes(packetBytes, gsoSize);
  b[start] = CAPSULE_DATAGRAM;
  let o = writeVarint(b, start + 1, valueBytes);
  if (gsoSize < 0) {
    b[o] = CONTEXT_IP;
  } else {
    b[o++] = CONTEXT_SUPER;
    b[o++] = gsoSize >>> 8;
    b[o] = gsoSize;
  }
  return start;
}

/** Length of what `writeDatagramHeader` writes. */
export function datagramHeaderBytes(packetBytes: number, gsoSize: number): number {
  const inner = gsoSize < 0 ? 1 : 3;
  return 1 + varintSize(packetBytes + inner) + inner;
}

/** A whole control capsule. */
export function encodeCapsule(type: number, value: Uint8Array): Uint8Array {
  const out = new Uint8Array(varintSize(type) + varintSize(value.length) + value.length);
  const o = writeVarint(out, writeVarint(out, 0, type), value.length);
  out.set(value, o);
  return out;
}

/** The value of one capsule: pieces of the chunks it came in. Reused: valid until `onCapsule` returns. */
export class CapsuleValue {
  lengthBytes = 0;
  partCount = 0;
  readonly parts: Uint8Array[] = [];
  readonly partOffset: number[] = [];
  readonly partLength: number[] = [];

  /** Copies `count` bytes from position `from` to out[o..]; the range must lie within the value. */
  copyTo(from: number, count: number, out: Uint8Array, o: number): void {
    for (let i = 0; i < this.partCount && count > 0; i++) {
      const partLength = this.partLength[i]!;
      if (from >= partLength) {
        from -= partLength;
        continue;
      }
      const n = Math.min(count, partLength - from);
      const at = this.partOffset[i]! + from;
      const part = this.parts[i]!;
      if (n <= 64) for (let k = 0; k < n; k++) out[o + k] = part[at + k]!;
      else out.set(part.subarray(at, at + n), o);
      o += n;
      count -= n;
      from = 0;
    }
  }

  byteAt(position: number): number {
    for (let i = 0; i < this.partCount; i++) {
      const partLength = this.partLength[i]!;
      if (position < partLength) return this.parts[i]![this.partOffset[i]! + position]!;
      position -= partLength;
    }
    return -1;
  }

  /** A copy in one piece (control capsules). */
  bytes(): Uint8Array {
    const out = new Uint8Array(this.lengthBytes);
    this.copyTo(0, this.lengthBytes, out, 0);
    return out;
  }

  add(buf: Uint8Array, offset: number, count: number): void {
    this.parts[this.partCount] = buf;
    this.partOffset[this.partCount] = offset;
    this.partLength[this.partCount++] = count;
    this.lengthBytes += count;
  }

  clear(): void {
    this.lengthBytes = 0;
    this.partCount = 0;
    this.parts.length = 0;
  }
}

export interface CapsuleSink {
  onCapsule(type: number, value: CapsuleValue): void;
}

/**
 * Incremental decoder. A chunk given to `push` must stay unchanged until the capsule that its last byte belongs to has
 * been handed out. After an error the stream is unusable (RFC 9297 §3.3: abort it).
 */
export class CapsuleDecoder {
  /** Capsules of unknown type, skipped (RFC 9297 §3.2). */
  skippedCapsules = 0;
  /** Why the stream is broken, or null. */
  error: string | null = null;

  /** Type and length as far as they have arrived: at most 8 + 8 bytes. */
  private readonly header = new Uint8Array(16);
  private headerFill = 0;
  private type = 0;
  /** Value bytes still to come; meaningful only when `inValue`. */
  private remaining = 0;
  private inValue = false;
  private skipping = false;
  private readonly value = new CapsuleValue();
  /** Dense block for a value that came in too many pieces. */
  private block: Uint8Array | null = null;

  /** True between capsules: the only place where a stream may end. */
  get isAtBoundary(): boolean {
    return !this.inValue && this.headerFill === 0;
  }

  push(chunk: Uint8Array, offset: number, lengthBytes: number, sink: CapsuleSink): void {
    const end = offset + lengthBytes;
    let o = offset;
    while (this.error === null) {
      if (!this.inValue) {
        o = this.takeHeader(chunk, o, end);
        if (!this.inValue) return;
      }
      const n = Math.min(this.remaining, end - o);
      if (n > 0 && !this.skipping) this.takeValue(chunk, o, n);
      o += n;
      this.remaining -= n;
      if (this.remaining > 0) return;
      this.inValue = false;
      this.headerFill = 0;
      if (this.skipping) this.skippedCapsules++;
      else sink.onCapsule(this.type, this.value);
      this.value.clear();
      this.block = null;
    }
  }

  /** Consumes header bytes; sets `inValue` when type and length are complete. */
  private takeHeader(chunk: Uint8Array, o: number, end: number): number {
    const h = this.header;
    while (o < end) {
      h[this.headerFill++] = chunk[o++]!;
      const typeBytes = varintBytes(h[0]!);
      if (this.headerFill <= typeBytes) continue;
      if (this.headerFill < typeBytes + varintBytes(h[typeBytes]!)) continue;
      this.begin(readVarint(h, 0), readVarint(h, typeBytes));
      break;
    }
    return o;
  }

  private begin(type: number, valueBytes: number): void {
    const limit = type === CAPSULE_DATAGRAM ? MAX_DATAGRAM_BYTES : MAX_CONTROL_BYTES;
    this.type = type;
    this.skipping = !isKnown(type);
    if (!this.skipping && valueBytes > limit) {
      this.error = `capsule type ${type} of ${valueBytes} bytes is over the limit of ${limit}`;
      return;
    }
    this.remaining = valueBytes;
    this.inValue = true;
  }

  private takeValue(chunk: Uint8Array, o: number, n: number): void {
    const value = this.value;
    if (this.block === null && value.partCount < MAX_PARTS) {
      value.add(chunk, o, n);
      return;
    }
    if (this.block === null) {
      this.block = new Uint8Array(value.lengthBytes + this.remaining);
      const gathered = value.lengthBytes;
      value.copyTo(0, gathered, this.block, 0);
      value.clear();
      value.add(this.block, 0, gathered);
    }
    this.block.set(chunk.subarray(o, o + n), value.lengthBytes);
    value.partLength[0]! += n;
    value.lengthBytes += n;
  }
}

function isKnown(type: number): boolean {
  return type <= CAPSULE_ROUTE_ADVERTISEMENT || type === CAPSULE_POLICY || type === CAPSULE_FLOW_MODES;
}
