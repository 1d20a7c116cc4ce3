/**
 * In-memory twins of the packet port and the TUN: what one end sends, the other receives, super-packets whole, checksums
 * as their sender left them. Behaves as the kernel does where it matters: a full receive buffer drops and counts, a
 * blocked sender takes nothing.
 */
import {
  CSUM_PARTIAL,
  CSUM_UNKNOWN,
  type PacketPort,
  type ReceiveBatch,
  type TransmitBatch,
} from '../../core/engine/ports.js';

const RECEIVE_BUFFER_BYTES = 16 << 20;

interface StoredPacket {
  readonly bytes: Uint8Array;
  readonly gsoSize: number;
  readonly checksum: number;
}

export class MemoryPort implements PacketPort {
  /** Called when a packet arrived and the queue was empty: the twin of readiness. */
  onReadable: () => void = () => undefined;
  /** Takes nothing while set, as a full device queue. */
  isBlocked = false;
  peer: MemoryPort | null = null;
  #queue: StoredPacket[] = [];
  #queuedBytes = 0;
  #drops = 0;

  constructor(readonly receiveBufferBytes: number = RECEIVE_BUFFER_BYTES) {}

  receive(batch: ReceiveBatch): number {
    const count = Math.min(batch.slots, this.#queue.length);
    for (let i = 0; i < count; i++) {
      const packet = this.#queue[i]!;
      const kept = Math.min(packet.bytes.length, batch.slotBytes);
      batch.slab.set(packet.bytes.subarray(0, kept), i * batch.slotBytes);
      batch.offset[i] = i * batch.slotBytes;
      batch.length[i] = kept;
      batch.truncated[i] = kept < packet.bytes.length ? 1 : 0;
      batch.gsoSize[i] = packet.gsoSize;
      batch.checksum[i] = packet.checksum;
      this.#queuedBytes -= packet.bytes.length;
    }
    this.#queue.splice(0, count);
    batch.count = count;
    return count;
  }

  send(batch: TransmitBatch, from: number): number {
    if (this.isBlocked) return 0;
    for (let i = from; i < batch.count; i++) {
      const checksum = batch.csumOffset[i]! < 0 ? CSUM_UNKNOWN : CSUM_PARTIAL;
      this.peer?.deliver({ bytes: gather(batch, i), gsoSize: batch.gsoSize[i]!, checksum });
    }
    return batch.count - from;
  }

  /** Nothing waits on this side: what was taken has arrived. */
  queuedBytes(): number {
    return 0;
  }

  takeDrops(): number {
    const drops = this.#drops;
    this.#drops = 0;
    return drops;
  }

  close(): void {
    if (this.peer !== null) this.peer.peer = null;
    this.peer = null;
    this.#queue = [];
  }

  /** A packet arrives. */
  deliver(packet: StoredPacket): void {
    if (this.#queuedBytes + packet.bytes.length > this.receiveBufferBytes) {
      this.#drops++;
      return;
    }
    this.#queue.push(packet);
    this.#queuedBytes += packet.bytes.length;
    if (this.#queue.length === 1) this.onReadable();
  }
}

/** Two ends of one link. */
export function memoryLink(receiveBufferBytes?: number): [MemoryPort, MemoryPort] {
  const a = new MemoryPort(receiveBufferBytes);
  const b = new MemoryPort(receiveBufferBytes);
  a.peer = b;
  b.peer = a;
  return [a, b];
}

/** Packet `i` of a batch in one piece: header and slices. */
export function gather(batch: TransmitBatch, i: number): Uint8Array {
  const bytes = new Uint8Array(batch.totalLength[i]!);
  const at = batch.headerOffset[i]!;
  bytes.set(batch.headers.subarray(at, at + batch.headerLength[i]!));
  let o = batch.headerLength[i]!;
  for (let p = batch.partStart[i]!; p < batch.partStart[i + 1]!; p++) {
    const offset = batch.partOffset[p]!;
    bytes.set(batch.parts[p]!.subarray(offset, offset + batch.partLength[p]!), o);
    o += batch.partLength[p]!;
  }
  return bytes;
}
