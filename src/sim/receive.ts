/**
 * What the receiving network card and the kernel's GRO do: packets are laid into a ReceiveBatch, and consecutive
 * in-order segments of one flow with identical options are merged into one super-packet (net/ipv4/tcp_offload.c rules:
 * same ACK, window, options and flags; equal sizes, only the last may be shorter; PSH or FIN ends it).
 */
import { putU16 } from '../core/base/wire-int.js';
import { ReceiveBatch } from '../core/engine/ports.js';
import { fold, MAX_PACKET_BYTES, type SimPacket, sumBytes, TCP_ACK, TCP_FIN, TCP_PSH } from './packet.js';

/** Packets (merged ones count once) handed to the stack in one call. */
const BATCH_SLOTS = 32;
/** IP packets end here. */
const MAX_IP_BYTES = 65_535;

export class Receiver {
  readonly batch = new ReceiveBatch(BATCH_SLOTS, MAX_PACKET_BYTES);
  /** State of the slot that may still grow, or -1. */
  private openSlot = -1;
  private nextSeq = 0;
  private openHeaderBytes = 0;
  private openSegmentBytes = 0;

  constructor(private readonly merges: boolean) {}

  clear(): void {
    this.batch.count = 0;
    this.openSlot = -1;
  }

  /** Copies a packet in. False: the batch is full, hand it up first. */
  add(packet: SimPacket): boolean {
    if (this.merges && this.merge(packet)) return true;
    const batch = this.batch;
    if (batch.count === batch.slots) return false;
    const slot = batch.count++;
    const at = slot * batch.slotBytes;
    batch.slab.set(packet.buf.subarray(0, packet.length), at);
    batch.offset[slot] = at;
    batch.length[slot] = packet.length;
    batch.gsoSize[slot] = packet.gsoSize;
    batch.checksum[slot] = packet.checksum;
    batch.truncated[slot] = 0;
    const canGrow = packet.isTcp && packet.gsoSize === 0 && packet.payloadBytes > 0 && (packet.flags & ~TCP_ACK) === 0;
    this.openSlot = canGrow ? slot : -1;
    if (canGrow) {
      this.nextSeq = (packet.seq + packet.payloadBytes) >>> 0;
      this.openHeaderBytes = packet.payloadOffset;
      this.openSegmentBytes = packet.payloadBytes;
    }
    return true;
  }

  private merge(packet: SimPacket): boolean {
    const slot = this.openSlot;
    if (slot < 0) return false;
    const batch = this.batch;
    const at = slot * batch.slotBytes;
    const payloadBytes = packet.payloadBytes;
    const total = batch.length[slot]! + payloadBytes;
    if (payloadBytes === 0 || payloadBytes > this.openSegmentBytes || total > MAX_IP_BYTES) return false;
    if (packet.payloadOffset !== this.openHeaderBytes || packet.gsoSize > 0) return false;
    if (packet.checksum !== batch.checksum[slot] || packet.seq !== this.nextSeq) return false;
    if (!sameHeaders(batch.slab, at, packet)) return false;
    batch.slab.set(packet.buf.subarray(packet.payloadOffset, packet.length), at + batch.length[slot]!);
    batch.length[slot] = total;
    batch.gsoSize[slot] = this.openSegmentBytes;
    setIpLength(batch.slab, at, packet, total);
    this.nextSeq = (this.nextSeq + payloadBytes) >>> 0;
    const endFlags = packet.flags & (TCP_FIN | TCP_PSH);
    batch.slab[at + packet.l4Offset + 13]! |= endFlags;
    if (endFlags !== 0 || payloadBytes < this.openSegmentBytes) this.openSlot = -1;
    return true;
  }
}

function setIpLength(slab: Uint8Array, at: number, packet: SimPacket, total: number): void {
  if (packet.family === 6) {
    putU16(slab, at + 4, total - 40);
    return;
  }
  putU16(slab, at + 2, total);
  putU16(slab, at + 10, 0);
  putU16(slab, at + 10, ~fold(sumBytes(slab, at, packet.l4Offset)) & 0xffff);
}

/** Equal but for lengths, IPv4 id and checksums, sequence number, and the flags that may end a merge. */
function sameHeaders(slab: Uint8Array, at: number, packet: SimPacket): boolean {
  const buf = packet.buf;
  const l4 = packet.l4Offset;
  if (buf[0] !== slab[at] || buf[1] !== slab[at + 1]) return false;
  for (let i = packet.family === 4 ? 8 : 6; i < l4; i++) {
    if (packet.family === 4 && (i === 10 || i === 11)) continue;
    if (buf[i] !== slab[at + i]) return false;
  }
  for (let i = l4; i < packet.payloadOffset; i++) {
    const j = i - l4;
    if ((j >= 4 && j < 8) || j === 16 || j === 17) continue;
    if (j === 13) {
      if ((buf[i]! & ~(TCP_FIN | TCP_PSH)) !== (slab[at + i]! & ~(TCP_FIN | TCP_PSH))) return false;
    } else if (buf[i] !== slab[at + i]) return false;
  }
  return true;
}
