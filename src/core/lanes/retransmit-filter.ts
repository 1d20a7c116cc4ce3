/**
 * Inner TCP retransmissions whose bytes still are in our queues, or not yet at the far end, are of no use: those bytes
 * will arrive (DESIGN 3.3). Per flow, [una, nxt) is what went in and is not acknowledged; a retransmission inside it is
 * dropped. Whatever might be a hole (we dropped a segment, or never saw one) is let through.
 *
 * Sequence numbers are raw 32-bit ones; a flow's window never spans 2^31.
 */
import { PROTO_TCP } from './inner-packet.js';
import type { QueuedPacket } from './packet-pool.js';

/** Packets on their way that are remembered per connection; the oldest is taken as acknowledged beyond that. */
const IN_FLIGHT = 8192;
const TCP_FIN_SYN_RST = 0x07;

/** State of one flow bucket. `key` is the full flow hash: on a collision the newer flow takes the state over. */
export class FilterFlow {
  key = -1;
  una = 0;
  nxt = 0;
  /** Nothing before this is filtered. */
  holeEnd = 0;
}

/** Packets taken by one connection, oldest first, until the write that carried them is acknowledged. */
export class InFlightRing {
  private readonly flow = new Int32Array(IN_FLIGHT);
  private readonly key = new Float64Array(IN_FLIGHT);
  private readonly seqEnd = new Uint32Array(IN_FLIGHT);
  private readonly write = new Float64Array(IN_FLIGHT);
  private head = 0;
  private count = 0;

  push(flows: readonly FilterFlow[], flowIndex: number, key: number, seqEnd: number, write: number): void {
    if (this.count === IN_FLIGHT) this.pop(flows);
    const at = (this.head + this.count++) % IN_FLIGHT;
    this.flow[at] = flowIndex;
    this.key[at] = key;
    this.seqEnd[at] = seqEnd;
    this.write[at] = write;
  }

  /** Writes up to `acked` have arrived. */
  advance(flows: readonly FilterFlow[], acked: number): void {
    while (this.count > 0 && this.write[this.head]! <= acked) this.pop(flows);
  }

  private pop(flows: readonly FilterFlow[]): void {
    const at = this.head;
    const f = flows[this.flow[at]!]!;
    if (f.key === this.key[at] && isBefore(f.una, this.seqEnd[at]!)) f.una = this.seqEnd[at]!;
    this.head = (at + 1) % IN_FLIGHT;
    this.count--;
  }
}

/** Takes note of a TCP packet about to be queued. True: it only repeats bytes that are on their way, drop it. */
export function isFutile(f: FilterFlow, key: number, packet: QueuedPacket): boolean {
  const v = packet.view;
  if (v.protocol !== PROTO_TCP || !v.hasPorts) return false;
  const payloadBytes = v.totalBytes - v.headerBytes;
  if (payloadBytes === 0 && (v.tcpFlags & TCP_FIN_SYN_RST) === 0) return false;
  const seq = v.tcpSeq;
  const end = (seq + payloadBytes) >>> 0;
  if (f.key !== key || (v.tcpFlags & TCP_FIN_SYN_RST) !== 0) {
    // A new flow, or one whose numbering begins or ends: start over behind this packet.
    f.key = key;
    f.una = f.nxt = f.holeEnd = end;
    return false;
  }
  if (!isBefore(seq, f.una) && !isBefore(seq, f.holeEnd) && !isBefore(f.nxt, end)) return true;
  if (isBefore(f.nxt, seq)) f.holeEnd = seq;
  if (isBefore(f.nxt, end)) f.nxt = end;
  return false;
}

/** `packet` (or its first segment) is dropped: a retransmission of it must pass. */
export function noteHole(f: FilterFlow, key: number, packet: QueuedPacket): void {
  const v = packet.view;
  if (f.key !== key || v.protocol !== PROTO_TCP) return;
  const end = (v.tcpSeq + v.totalBytes - v.headerBytes) >>> 0;
  if (isBefore(f.holeEnd, end)) f.holeEnd = end;
}

function isBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}
