/**
 * A packet in flight: the bytes of one IP packet, flat, in a pooled buffer, with the few header fields that links and
 * middleboxes care about. Deliberately independent of core/wire: the network must not share the stack's mistakes.
 */
import { getU16, getU32, putU16, putU32 } from '../core/base/wire-int.js';
import { CSUM_PARTIAL, CSUM_UNKNOWN, CSUM_VALID } from '../core/engine/ports.js';

export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_CWR = 0x80;

const PROTOCOL_TCP = 6;

/** Takes a packet that has passed a bottleneck. */
export type PacketExit = (packet: SimPacket) => void;

export class SimPacket {
  readonly buf: Uint8Array;
  /** IP bytes. */
  length = 0;
  family: 4 | 6 = 4;
  /** Where the L4 header begins, and (TCP) the payload. */
  l4Offset = 0;
  payloadOffset = 0;
  isTcp = false;
  /** > 0: a super-packet with segments of this size. */
  gsoSize = 0;
  /** What the receiver is told: CSUM_PARTIAL until somebody spoils it. */
  checksum = CSUM_PARTIAL;
  /** Link of the receiving host. */
  linkId = 0;
  /** Inside a shared bottleneck: where it goes on. */
  exit: PacketExit | null = null;

  constructor(capacityBytes: number) {
    this.buf = new Uint8Array(capacityBytes);
  }

  /** Finds the headers again after bytes were written or moved. */
  parse(): void {
    const buf = this.buf;
    this.family = buf[0]! >> 4 === 6 ? 6 : 4;
    this.l4Offset = this.family === 4 ? (buf[0]! & 0x0f) * 4 : 40;
    this.isTcp = (this.family === 4 ? buf[9] : buf[6]) === PROTOCOL_TCP && this.length >= this.l4Offset + 20;
    this.payloadOffset = this.isTcp ? this.l4Offset + (buf[this.l4Offset + 12]! >> 4) * 4 : this.l4Offset;
  }

  get payloadBytes(): number {
    return this.length - this.payloadOffset;
  }
  get addressBytes(): number {
    return this.family === 4 ? 4 : 16;
  }
  get sourceOffset(): number {
    return this.family === 4 ? 12 : 8;
  }
  get destinationOffset(): number {
    return this.family === 4 ? 16 : 24;
  }
  get sourcePort(): number {
    return getU16(this.buf, this.l4Offset);
  }
  set sourcePort(v: number) {
    putU16(this.buf, this.l4Offset, v);
  }
  get destinationPort(): number {
    return getU16(this.buf, this.l4Offset + 2);
  }
  set destinationPort(v: number) {
    putU16(this.buf, this.l4Offset + 2, v);
  }
  get seq(): number {
    return getU32(this.buf, this.l4Offset + 4);
  }
  set seq(v: number) {
    putU32(this.buf, this.l4Offset + 4, v >>> 0);
  }
  get ack(): number {
    return getU32(this.buf, this.l4Offset + 8);
  }
  set ack(v: number) {
    putU32(this.buf, this.l4Offset + 8, v >>> 0);
  }
  get flags(): number {
    return this.buf[this.l4Offset + 13]!;
  }
  set flags(v: number) {
    this.buf[this.l4Offset + 13] = v;
  }
  get window(): number {
    return getU16(this.buf, this.l4Offset + 14);
  }
  set window(v: number) {
    putU16(this.buf, this.l4Offset + 14, v);
  }

  /** Sets the IP length to `length` and makes the IPv4 header checksum right. */
  setLength(length: number): void {
    this.length = length;
    if (this.family === 6) {
      putU16(this.buf, 4, length - 40);
      return;
    }
    putU16(this.buf, 2, length);
    this.fixIpChecksum();
  }

  fixIpChecksum(): void {
    if (this.family === 6) return;
    putU16(this.buf, 10, 0);
    putU16(this.buf, 10, ~fold(sumBytes(this.buf, 0, this.l4Offset)) & 0xffff);
  }

  /** Offset of the first option of `kind` (MPTCP: and `subtype`) at or after `from`, or -1. Total over any bytes. */
  findOption(kind: number, subtype = -1, from = this.l4Offset + 20): number {
    const buf = this.buf;
    for (let o = from; o < this.payloadOffset; ) {
      const k = buf[o]!;
      if (k === 0) return -1;
      if (k === 1) {
        o++;
        continue;
      }
      const bytes = buf[o + 1]!;
      if (bytes < 2 || o + bytes > this.payloadOffset) return -1;
      if (k === kind && (subtype < 0 || buf[o + 2]! >> 4 === subtype)) return o;
      o += bytes;
    }
    return -1;
  }

  /** A box changed the packet and mended the checksum by the difference: what was wrong before is still wrong. */
  markRewritten(): void {
    if (this.checksum !== CSUM_UNKNOWN) this.checksum = CSUM_VALID;
  }

  /** TCP checksum over pseudo-header, header and payload, as it should be on the wire. */
  tcpChecksum(): number {
    const segmentBytes = this.length - this.l4Offset;
    const at = this.l4Offset + 16;
    const saved = getU16(this.buf, at);
    putU16(this.buf, at, 0);
    let sum = PROTOCOL_TCP + segmentBytes;
    sum += sumBytes(this.buf, this.sourceOffset, 2 * this.addressBytes);
    sum += sumBytes(this.buf, this.l4Offset, segmentBytes);
    putU16(this.buf, at, saved);
    return ~fold(sum) & 0xffff;
  }

  writeTcpChecksum(): void {
    putU16(this.buf, this.l4Offset + 16, this.tcpChecksum());
  }

  copyFrom(other: SimPacket): void {
    this.buf.set(other.buf.subarray(0, other.length));
    this.length = other.length;
    this.family = other.family;
    this.l4Offset = other.l4Offset;
    this.payloadOffset = other.payloadOffset;
    this.isTcp = other.isTcp;
    this.gsoSize = other.gsoSize;
    this.checksum = other.checksum;
    this.linkId = other.linkId;
  }
}

/** Buffers by size class; returned ones are reused, so steady traffic allocates nothing. */
export class PacketPool {
  private readonly free: SimPacket[][] = SIZE_CLASSES.map(() => []);
  /** Packets taken and not returned: 0 when a network has drained. */
  outstanding = 0;

  /** A blank packet with room for `bytes`, at most MAX_PACKET_BYTES. */
  take(bytes: number): SimPacket {
    this.outstanding++;
    let size = 0;
    while (SIZE_CLASSES[size]! < bytes) size++;
    const packet = this.free[size]!.pop() ?? new SimPacket(SIZE_CLASSES[size]!);
    packet.gsoSize = 0;
    packet.checksum = CSUM_PARTIAL;
    return packet;
  }

  clone(packet: SimPacket): SimPacket {
    const copy = this.take(packet.length);
    copy.copyFrom(packet);
    return copy;
  }

  release(packet: SimPacket): void {
    this.outstanding--;
    const free = this.free[SIZE_CLASSES.indexOf(packet.buf.length)]!;
    if (free.length < MAX_FREE_PACKETS) free.push(packet);
  }
}

export const MAX_PACKET_BYTES = 66_560;
/** ACKs, MTU-sized packets, super-packets. */
const SIZE_CLASSES = [192, 2048, MAX_PACKET_BYTES];
/** Idle buffers kept per class; more are left to the garbage collector. */
const MAX_FREE_PACKETS = 8192;

export function sumBytes(buf: Uint8Array, from: number, lengthBytes: number): number {
  const end = from + lengthBytes;
  let sum = 0;
  let o = from;
  for (; o + 1 < end; o += 2) sum += (buf[o]! << 8) | buf[o + 1]!;
  if (o < end) sum += buf[o]! << 8;
  return sum;
}

export function fold(sum: number): number {
  let s = sum;
  while (s > 0xffff) s = (s & 0xffff) + Math.floor(s / 0x10000);
  return s;
}
