/**
 * Out of the tunnel, into the TUN: checks each inner packet (core/lanes/inner-check.ts) and collects what may pass in one
 * TransmitBatch. Headers are copied into the batch, payload is referenced; one native call sends many packets.
 */
import { HEADER_SLOT_BYTES, LINK_HEADROOM_BYTES, TransmitBatch, type TunPort } from '../core/engine/ports.js';
import { type CapsuleValue, CONTEXT_IP, CONTEXT_SUPER } from '../core/lanes/capsule.js';
import { type AddressRule, CheckedPacket, checkInner } from '../core/lanes/inner-check.js';
import { PROTO_UDP } from '../core/lanes/inner-packet.js';

const SLOTS = 64;
/** Of the packet that are copied for parsing: room for IPv6 with some extension headers and a full TCP header. */
const HEAD_BYTES = HEADER_SLOT_BYTES - LINK_HEADROOM_BYTES;
const MAX_PARTS = SLOTS * 16;
const PARTS_PER_PACKET = 13;
const DNS_PORT = 53;

export class TunWriter {
  /** Packets handed to the TUN, and packets that it did not take (its queue was full). */
  packetsWritten = 0;
  bytesWritten = 0;
  packetsNotTaken = 0;
  /** Told after what came in one turn was written: a host that is asked something itself has answered by then. */
  onWritten: () => void = () => {};
  /** Told of the payload of each UDP datagram that comes from a name server; null: nobody wants to know. */
  onDnsAnswer: ((payload: Uint8Array) => void) | null = null;
  /** Refused packets by reason. */
  readonly refused: Record<string, number> = {};

  private readonly batch = new TransmitBatch(SLOTS, MAX_PARTS);
  private readonly checked = new CheckedPacket();
  private flushIsScheduled = false;

  constructor(
    private readonly tun: TunPort,
    /** Longest packet that the TUN may get (and super-packet segment). */
    public mtuBytes: number,
  ) {}

  /** A DATAGRAM capsule. False: refused, and counted with its reason. */
  write(value: CapsuleValue, rule: AddressRule): boolean {
    const context = value.byteAt(0);
    let prefixBytes = 1;
    let gsoSize = -1;
    if (context === CONTEXT_SUPER && value.lengthBytes >= 3) {
      gsoSize = (value.byteAt(1) << 8) | value.byteAt(2);
      prefixBytes = 3;
    } else if (context !== CONTEXT_IP) {
      // RFC 9484 §5: unknown contexts are dropped.
      return this.refuse('inner_context');
    }
    const lengthBytes = value.lengthBytes - prefixBytes;
    const batch = this.batch;
    if (batch.count === SLOTS || batch.partCount + PARTS_PER_PACKET > MAX_PARTS) this.flush();
    const slot = batch.count;
    const at = slot * HEADER_SLOT_BYTES + LINK_HEADROOM_BYTES;
    const headBytes = Math.min(HEAD_BYTES, lengthBytes);
    value.copyTo(prefixBytes, headBytes, batch.headers, at);

    const checked = this.checked;
    const reason = checkInner(batch.headers, at, headBytes, lengthBytes, gsoSize, rule, this.mtuBytes, checked);
    if (reason !== null) return this.refuse(reason);

    const view = checked.view;
    if (view.srcPort === DNS_PORT && view.protocol === PROTO_UDP && view.hasPorts) this.tellDns(value, prefixBytes);
    // Where the kernel finishes a checksum or cuts, the header must be exactly the headers.
    const headerBytes = checked.csumOffset >= 0 ? view.headerBytes : headBytes;
    batch.headerOffset[slot] = at;
    batch.headerLength[slot] = headerBytes;
    batch.csumStart[slot] = view.l4Offset;
    batch.csumOffset[slot] = checked.csumOffset;
    batch.gsoSize[slot] = checked.gsoSize;
    batch.family[slot] = view.family;
    batch.totalLength[slot] = lengthBytes;
    batch.partStart[slot] = batch.partCount;
    this.addParts(value, prefixBytes + headerBytes);
    batch.partStart[slot + 1] = batch.partCount;
    batch.count = slot + 1;
    this.bytesWritten += lengthBytes;
    if (!this.flushIsScheduled) {
      this.flushIsScheduled = true;
      process.nextTick(this.onTick);
    }
    return true;
  }

  /** Hands over what has been collected; otherwise that happens at the end of the tick. */
  flush(): void {
    const batch = this.batch;
    if (batch.count === 0) return;
    const taken = this.tun.send(batch, 0);
    this.packetsWritten += taken;
    // The TUN has no queue in this direction; what it does not take (device down) is lost, as on any wire.
    this.packetsNotTaken += batch.count - taken;
    batch.clear();
  }

  private tellDns(value: CapsuleValue, prefixBytes: number): void {
    const { view } = this.checked;
    if (this.onDnsAnswer === null || view.isFragment) return;
    const payload = new Uint8Array(view.totalBytes - view.headerBytes);
    value.copyTo(prefixBytes + view.headerBytes, payload.length, payload, 0);
    this.onDnsAnswer(payload);
  }

  private readonly onTick = (): void => {
    this.flushIsScheduled = false;
    this.flush();
    this.onWritten();
  };

  private addParts(value: CapsuleValue, skipBytes: number): void {
    const batch = this.batch;
    let skip = skipBytes;
    for (let i = 0; i < value.partCount; i++) {
      const partLength = value.partLength[i]!;
      if (skip >= partLength) {
        skip -= partLength;
        continue;
      }
      batch.parts[batch.partCount] = value.parts[i]!;
      batch.partOffset[batch.partCount] = value.partOffset[i]! + skip;
      batch.partLength[batch.partCount++] = partLength - skip;
      skip = 0;
    }
  }

  private refuse(reason: string): boolean {
    this.refused[reason] = (this.refused[reason] ?? 0) + 1;
    return false;
  }
}
