/**
 * Buffers for queued packets: a few sizes, reused, bounded. What counts against the limit is what is allocated, not the
 * payload, so one-byte packets cannot take more memory than the limit says.
 */
import { DATAGRAM_HEADER_BYTES } from './capsule.js';
import { InnerView } from './inner-packet.js';

/** Free bytes in front of each packet: its capsule header is written there. */
const HEADROOM_BYTES = 16;
/** Classes fit small packets (ACKs, DNS), one MTU, a super-packet cut to 2 ms on a slow link, and a whole one. */
const CLASS_BYTES = [256, 2048, 16_384, 66_048] as const;
/** Kept for reuse per class. */
const FREE_KEPT = [512, 1024, 256, 128] as const;

/** A packet in a queue. Owned by exactly one queue, or free. */
export class QueuedPacket {
  buf: Uint8Array = NO_BYTES;
  /** The packet is buf[start .. start + view.totalBytes). */
  start = 0;
  /** -1: checksums are finished (context 0); else context 2, > 0 for super-packets. */
  gsoSize = -1;
  /** Full hash of its flow; the low bits are its queue. */
  flowHash = 0;
  enqueuedUs = 0;
  next: QueuedPacket | null = null;
  sizeClass = 0;
  readonly view = new InnerView();
}

const NO_BYTES = new Uint8Array(0);

export class PacketPool {
  /** Bytes in buffers handed out. */
  usedBytes = 0;
  private readonly free: QueuedPacket[][] = CLASS_BYTES.map(() => []);

  constructor(readonly limitBytes: number) {
    if (HEADROOM_BYTES < DATAGRAM_HEADER_BYTES) throw new RangeError('headroom');
  }

  /** A packet with room for `packetBytes`, or null: the limit is reached, make room first. */
  take(packetBytes: number): QueuedPacket | null {
    let sizeClass = 0;
    const needed = packetBytes + HEADROOM_BYTES;
    while (sizeClass < CLASS_BYTES.length && CLASS_BYTES[sizeClass]! < needed) sizeClass++;
    const size = CLASS_BYTES[sizeClass];
    if (size === undefined || this.usedBytes + size > this.limitBytes) return null;
    this.usedBytes += size;
    let packet = this.free[sizeClass]!.pop();
    if (packet === undefined) {
      packet = new QueuedPacket();
      packet.buf = new Uint8Array(size);
      packet.sizeClass = sizeClass;
    }
    packet.start = HEADROOM_BYTES;
    return packet;
  }

  give(packet: QueuedPacket): void {
    const sizeClass = packet.sizeClass;
    this.usedBytes -= CLASS_BYTES[sizeClass]!;
    packet.next = null;
    const free = this.free[sizeClass]!;
    if (free.length < FREE_KEPT[sizeClass]!) free.push(packet);
  }
}
