/**
 * The packet lane (DESIGN 3.3): inner IP packets wait in FQ-CoDel until a connection asks for the next write. The lane
 * is a set of two connections: SPARSE carries flows that send little (ICMP, DNS, games, voice, requests), BULK the rest,
 * so that a small packet never waits behind a big transfer's bytes in one TCP stream. A flow changes connection only
 * when nothing of it is queued or unacknowledged, so its packets are never reordered; where that moment does not come by
 * itself, new packets of the flow are held until the old connection has delivered the earlier ones.
 *
 *   TUN → enqueue: parse, classify, cut → FQ-CoDel of its connection → pull: capsules for one TLS write
 *                                          written / acked: stream offsets, for the rule above
 */
import type { Micros } from '../base/time.js';
import { AckMarks } from './ack-marks.js';
import { writeDatagramHeader } from './capsule.js';
import { CODEL_TARGET_US, FLOW_QUEUES, FqCodel } from './fq-codel.js';
import { MIN_GSO_BYTES } from './inner-check.js';
import {
  finishL4Checksum,
  flowHash,
  InnerView,
  PROTO_ICMP,
  PROTO_ICMP6,
  PROTO_TCP,
  PROTO_UDP,
  parseInner,
} from './inner-packet.js';
import { PacketPool, type QueuedPacket } from './packet-pool.js';
import { FilterFlow, InFlightRing, isFutile, noteHole } from './retransmit-filter.js';
import { pieceBytes, rewriteHeaders } from './super-packet.js';

export const SPARSE = 0;
export const BULK = 1;
export type LaneIndex = typeof SPARSE | typeof BULK;
export const LANE_NAMES = ['sparse', 'bulk'] as const;

/** A flow that sends more than this in one window is bulk (2.6 Mbit/s), until it has been quiet for BULK_MEMORY_US. */
const SPARSE_BYTES = 32_768;
const SPARSE_WINDOW_US = 100_000;
const BULK_MEMORY_US = 1_000_000;
/**
 * How long a flow may wait to become movable before its new packets are held. Short: while it grows it fills the sparse
 * connection, which is cold, and the sooner the bulk one carries it the less of its slow start meets ours. Not zero: a
 * reply of a few hundred kilobytes is often done by then, and a hold costs it a round trip.
 */
const HOLD_AFTER_US = 25_000;
/** A super-packet that takes longer than this at the delivery rate is cut (DESIGN 3.3). */
const SUPER_MAX_US = 2_000;
/** Taken for 2 ms' worth while no rate is known. */
const SUPER_UNKNOWN_BYTES = 16_384;
/** One TLS write carries at most this much, and one packet more. */
export const WRITE_MAX_BYTES = 262_144;
/** Room that `pull` needs: WRITE_MAX_BYTES and one whole super-packet with its header. */
export const WRITE_ROOM_BYTES = WRITE_MAX_BYTES + 66_048;
/** Allocated bytes in both queues together; beyond it the fattest flow loses packets. */
export const LANE_MEMORY_BYTES = 16 * 1024 * 1024;

/**
 * CoDel for bulk flows. What drains their queue is not a link of steady rate but an MPTCP connection, whose paths come and
 * go and recover from losses within a round trip of the slowest: a queue shorter than that would be dropped from for
 * nothing, and nobody but the bulk flow itself waits in it.
 */
const BULK_TARGET_US = 20_000;
const BULK_INTERVAL_US = 200_000;
/**
 * While the connection itself is still getting faster, or has just lost a path, the queue stands because of that and not
 * because of the flow: 80 Mbit/s in flight over 80 ms are 210 ms at 30 Mbit/s. A drop then would tell the sender what it
 * learns from the delay, and cost the receiver a round trip of silence just after the path was lost.
 */
const UNSETTLED_TARGET_US = 250_000;

/**
 * What is not TCP is not sent again by us, and late is as good as lost to most of it: its packets wait so long and no longer,
 * whatever becomes of the paths. A call's playout buffer is below the first; what sends much can use the second.
 */
const SPARSE_LIFETIME_US = 200_000;
const BULK_LIFETIME_US = 1_000_000;

const DNS_PORT = 53;

export interface PacketLaneOptions {
  /** MTU of the TUN. */
  readonly mtuBytes: number;
  /** Secret, so that nobody can aim at a flow queue (RFC 8290 §4.1.1). */
  readonly hashSeed: number;
  /** Default LANE_MEMORY_BYTES. */
  readonly memoryBytes?: number;
}

/** The lane that a rule gives to the flow of the packet at b[o..]; null: as it behaves. Asked once per flow. */
export type LaneRule = (b: Uint8Array, o: number, view: InnerView) => LaneIndex | null;

export interface PacketLaneCounters {
  packetsIn: number;
  bytesIn: number;
  packetsOut: number;
  bytesOut: number;
  /** Retransmissions of bytes that were still on their way. */
  futileRetransmissions: number;
  superPacketsCut: number;
  droppedMalformed: number;
  droppedTruncated: number;
  droppedNotOffloadable: number;
  droppedNoMemory: number;
  droppedLaneGone: number;
  flowsMoved: number;
  flowsHeld: number;
}

/** What the lane knows of one flow bucket besides its packets. */
class FlowState {
  /** The connection that its packets are queued for. */
  lane: LaneIndex = SPARSE;
  windowStartUs = 0;
  windowBytes = 0;
  bulkUntilUs = 0;
  /** What the rules say of the flow with this hash; null: nothing. */
  judgedHash = -1;
  ruled: LaneIndex | null = null;
  /** Since when it wants the other connection; -1: it does not. */
  wantsMoveSinceUs = -1;
  /** Newest write of each connection that carries something of it. */
  readonly lastWrite = [0, 0];
  /** Held on `lane` until its packets on the other one are acknowledged. */
  held = false;
}

class LaneState {
  readonly queue: FqCodel;
  readonly marks = new AckMarks();
  readonly inFlight = new InFlightRing();
  isUp = false;
  rateBytesPerS = 0;

  constructor(pool: PacketPool, mtuBytes: number) {
    this.queue = new FqCodel(pool, mtuBytes);
  }
}

export class PacketLane {
  readonly counters: PacketLaneCounters = {
    packetsIn: 0,
    bytesIn: 0,
    packetsOut: 0,
    bytesOut: 0,
    futileRetransmissions: 0,
    superPacketsCut: 0,
    droppedMalformed: 0,
    droppedTruncated: 0,
    droppedNotOffloadable: 0,
    droppedNoMemory: 0,
    droppedLaneGone: 0,
    flowsMoved: 0,
    flowsHeld: 0,
  };
  /** The peer agreed to context 2; without it everything is cut and finished here. */
  peerTakesSuper = false;

  private laneRule: LaneRule | null = null;
  private readonly pool: PacketPool;
  private readonly lanes: readonly [LaneState, LaneState];
  private readonly flows: FlowState[] = [];
  private readonly filters: FilterFlow[] = [];
  private readonly heldFlows: number[] = [];
  private readonly view = new InnerView();
  private readonly hashSeed: number;

  constructor(options: PacketLaneOptions) {
    this.hashSeed = options.hashSeed;
    this.pool = new PacketPool(options.memoryBytes ?? LANE_MEMORY_BYTES);
    this.lanes = [new LaneState(this.pool, options.mtuBytes), new LaneState(this.pool, options.mtuBytes)];
    for (let i = 0; i < FLOW_QUEUES; i++) {
      this.flows.push(new FlowState());
      this.filters.push(new FilterFlow());
    }
    this.lanes[BULK].queue.targetUs = BULK_TARGET_US;
    this.lanes[BULK].queue.intervalUs = BULK_INTERVAL_US;
    this.lanes[SPARSE].queue.lifetimeUs = SPARSE_LIFETIME_US;
    this.lanes[BULK].queue.lifetimeUs = BULK_LIFETIME_US;
    for (const lane of this.lanes) {
      lane.queue.onDrop = (flowIndex, packet) => noteHole(this.filters[flowIndex]!, packet.flowHash, packet);
    }
  }

  /** Other rules; null: none. Flows are judged anew. */
  setLaneRule(rule: LaneRule | null): void {
    this.laneRule = rule;
    for (const flow of this.flows) {
      flow.judgedHash = -1;
      flow.ruled = null;
    }
  }

  /** Flows that sent something in the last `withinUs`; two that share a bucket count as one. */
  activeFlows(nowUs: Micros, withinUs: Micros): number {
    let count = 0;
    for (const flow of this.flows) if (flow.windowStartUs > 0 && nowUs - flow.windowStartUs <= withinUs) count++;
    return count;
  }

  get memoryBytes(): number {
    return this.pool.usedBytes;
  }

  queueOf(lane: LaneIndex): FqCodel {
    return this.lanes[lane].queue;
  }

  /** The connection of `lane` can carry writes from now on. */
  setUp(lane: LaneIndex): void {
    this.lanes[lane].isUp = true;
  }

  /** The connection of `lane` is gone, with what it carried. Its flows go to the other one. */
  setGone(lane: LaneIndex): void {
    const state = this.lanes[lane];
    state.isUp = false;
    state.marks.reset();
    state.inFlight.advance(this.filters, state.marks.acked);
    this.counters.droppedLaneGone += state.queue.backlogPackets;
    state.queue.clear();
    for (const flow of this.flows) if (flow.lane === lane) this.place(flow, other(lane));
    this.releaseHeld();
  }

  setRate(lane: LaneIndex, bytesPerS: number): void {
    this.lanes[lane].rateBytesPerS = bytesPerS;
  }

  /** The connection's own rate is changing (slow start, a path that was added or lost), or steady. */
  setUnsettled(lane: LaneIndex, isUnsettled: boolean): void {
    const { queue } = this.lanes[lane];
    queue.targetUs = isUnsettled ? UNSETTLED_TARGET_US : lane === BULK ? BULK_TARGET_US : CODEL_TARGET_US;
  }

  /**
   * Takes a packet from the TUN: `lengthBytes` at b[o..], lent. `gsoSize` as in ReceiveBatch; `unfinished`: its L4
   * checksum was left to hardware.
   */
  enqueue(nowUs: Micros, b: Uint8Array, o: number, lengthBytes: number, gsoSize: number, unfinished: boolean): void {
    const v = this.view;
    this.counters.packetsIn++;
    this.counters.bytesIn += lengthBytes;
    if (parseInner(b, o, lengthBytes, lengthBytes, v) !== null) {
      this.counters.droppedMalformed++;
      return;
    }
    const offload = gsoSize > 0 || unfinished;
    if (offload && !isOffloadable(v, gsoSize)) {
      this.counters.droppedNotOffloadable++;
      return;
    }
    const hash = flowHash(b, o, v, this.hashSeed);
    const index = hash & (FLOW_QUEUES - 1);
    const lane = this.assign(nowUs, index, v, hash, b, o);
    const payloadBytes = v.totalBytes - v.headerBytes;
    if (gsoSize > 0 && payloadBytes > gsoSize) {
      const piece = this.pieceLimit(v, gsoSize);
      if (piece < payloadBytes) this.counters.superPacketsCut++;
      for (let from = 0; from < payloadBytes; from += piece) {
        this.queuePiece(nowUs, lane, index, hash, b, o, gsoSize, from, Math.min(piece, payloadBytes - from));
      }
    } else {
      this.queuePiece(nowUs, lane, index, hash, b, o, offload ? 0 : -1, 0, payloadBytes);
    }
  }

  /** True when `pull` would return bytes. */
  hasReady(lane: LaneIndex): boolean {
    return this.lanes[lane].isUp && this.lanes[lane].queue.hasReady;
  }

  /**
   * Fills `out` (WRITE_ROOM_BYTES) with the capsules of one write: at least one packet, then more until `maxBytes` are
   * reached. Returns the bytes filled; 0 if nothing is ready. Follow it with `written` when the stream has taken them.
   */
  pull(nowUs: Micros, lane: LaneIndex, out: Uint8Array, maxBytes: number): number {
    const state = this.lanes[lane];
    const limit = Math.min(maxBytes, WRITE_MAX_BYTES);
    let filled = 0;
    let write = 0;
    do {
      const packet = state.queue.dequeue(nowUs);
      if (packet === null) break;
      if (write === 0) write = state.marks.begin();
      const v = packet.view;
      const start = writeDatagramHeader(packet.buf, packet.start, v.totalBytes, packet.gsoSize);
      const end = packet.start + v.totalBytes;
      out.set(packet.buf.subarray(start, end), filled);
      filled += end - start;
      this.counters.packetsOut++;
      this.counters.bytesOut += v.totalBytes;
      const index = packet.flowHash & (FLOW_QUEUES - 1);
      this.flows[index]!.lastWrite[lane] = write;
      if (v.protocol === PROTO_TCP && v.totalBytes > v.headerBytes) {
        const seqEnd = (v.tcpSeq + v.totalBytes - v.headerBytes) >>> 0;
        state.inFlight.push(this.filters, index, packet.flowHash, seqEnd, write);
      }
      this.pool.give(packet);
    } while (filled < limit);
    return filled;
  }

  /** The stream of `lane` has taken the last pull; it is `streamOffset` bytes long now. */
  written(lane: LaneIndex, streamOffset: number): void {
    this.lanes[lane].marks.written(streamOffset);
  }

  /** The peer has acknowledged the first `streamOffset` bytes of the stream of `lane`. */
  acked(lane: LaneIndex, streamOffset: number): void {
    const state = this.lanes[lane];
    if (!state.marks.advance(streamOffset)) return;
    state.inFlight.advance(this.filters, state.marks.acked);
    if (this.heldFlows.length > 0) this.releaseHeld();
  }

  /** Meters the flow and says which connection this packet is queued for. */
  private assign(nowUs: Micros, index: number, v: InnerView, hash: number, b: Uint8Array, o: number): LaneIndex {
    const flow = this.flows[index]!;
    // What it waits for may have been dropped instead of delivered.
    if (flow.held) this.releaseHeld();
    if (nowUs - flow.windowStartUs > SPARSE_WINDOW_US) {
      flow.windowStartUs = nowUs;
      flow.windowBytes = 0;
      // Flows that share a bucket share its lane: not asked again for each packet that is another's.
      if (this.laneRule !== null && flow.judgedHash !== hash) {
        flow.judgedHash = hash;
        flow.ruled = this.laneRule(b, o, v);
      }
    }
    flow.windowBytes += v.totalBytes;
    if (flow.windowBytes > SPARSE_BYTES && !isAlwaysSparse(v)) flow.bulkUntilUs = nowUs + BULK_MEMORY_US;
    let wanted: LaneIndex = flow.ruled ?? (nowUs < flow.bulkUntilUs ? BULK : SPARSE);
    if (!this.lanes[wanted].isUp && this.lanes[other(wanted)].isUp) wanted = other(wanted);
    if (wanted === flow.lane) {
      flow.wantsMoveSinceUs = -1;
    } else if (!flow.held) {
      if (this.isClear(index, flow.lane)) this.place(flow, wanted);
      else if (flow.wantsMoveSinceUs < 0) flow.wantsMoveSinceUs = nowUs;
      else if (nowUs - flow.wantsMoveSinceUs > HOLD_AFTER_US) this.holdOn(index, wanted);
    }
    return flow.lane;
  }

  /** Nothing of the flow is queued for `lane`, or on its way there. */
  private isClear(index: number, lane: LaneIndex): boolean {
    const state = this.lanes[lane];
    return state.queue.flowBytes(index) === 0 && this.flows[index]!.lastWrite[lane]! <= state.marks.acked;
  }

  private place(flow: FlowState, lane: LaneIndex): void {
    if (flow.lane === lane) return;
    flow.lane = lane;
    flow.wantsMoveSinceUs = -1;
    this.counters.flowsMoved++;
  }

  private holdOn(index: number, lane: LaneIndex): void {
    const flow = this.flows[index]!;
    this.place(flow, lane);
    flow.held = true;
    this.lanes[lane].queue.hold(index);
    this.heldFlows.push(index);
    this.counters.flowsHeld++;
  }

  private releaseHeld(): void {
    for (let i = this.heldFlows.length - 1; i >= 0; i--) {
      const index = this.heldFlows[i]!;
      const flow = this.flows[index]!;
      if (!this.isClear(index, SPARSE) && flow.lane === BULK) continue;
      if (!this.isClear(index, BULK) && flow.lane === SPARSE) continue;
      flow.held = false;
      for (const lane of this.lanes) lane.queue.release(index);
      this.heldFlows.splice(i, 1);
    }
  }

  /** Payload bytes that one piece of a super-packet may have. */
  private pieceLimit(v: InnerView, gsoSize: number): number {
    if (!this.peerTakesSuper || gsoSize < MIN_GSO_BYTES) return gsoSize;
    const rate = Math.max(this.lanes[SPARSE].rateBytesPerS, this.lanes[BULK].rateBytesPerS);
    const limit = rate === 0 ? SUPER_UNKNOWN_BYTES : (rate * SUPER_MAX_US) / 1_000_000;
    return pieceBytes(v, gsoSize, limit);
  }

  /** Copies headers and payload [from, from + count) into a packet of ours, and queues it. */
  private queuePiece(
    nowUs: Micros,
    lane: LaneIndex,
    index: number,
    hash: number,
    b: Uint8Array,
    o: number,
    gsoSize: number,
    from: number,
    count: number,
  ): void {
    const original = this.view;
    const headerBytes = original.headerBytes;
    const packet = this.take(headerBytes + count);
    if (packet === null) {
      this.counters.droppedNoMemory++;
      return;
    }
    const buf = packet.buf;
    const start = packet.start;
    packet.flowHash = hash;
    packet.gsoSize = gsoSize > 0 && (count <= gsoSize || gsoSize < MIN_GSO_BYTES) ? 0 : gsoSize;
    const v = packet.view;
    v.copyFrom(original);
    if (count === original.totalBytes - headerBytes) {
      buf.set(b.subarray(o, o + original.totalBytes), start);
    } else {
      buf.set(b.subarray(o, o + headerBytes), start);
      buf.set(b.subarray(o + headerBytes + from, o + headerBytes + from + count), start + headerBytes);
      rewriteHeaders(buf, start, original, from, count, gsoSize > 0 ? Math.floor(from / gsoSize) : 0);
      v.totalBytes = headerBytes + count;
      v.tcpSeq = (original.tcpSeq + from) >>> 0;
    }
    if (isFutile(this.filters[index]!, hash, packet)) {
      this.counters.futileRetransmissions++;
      this.pool.give(packet);
      return;
    }
    if (packet.gsoSize === 0 && !this.peerTakesSuper) {
      finishL4Checksum(buf, start, v);
      packet.gsoSize = -1;
    }
    this.lanes[lane].queue.enqueue(nowUs, index, packet);
  }

  /** A packet from the pool; when that is at its limit, the fattest flow pays. */
  private take(bytes: number): QueuedPacket | null {
    for (;;) {
      const packet = this.pool.take(bytes);
      if (packet !== null) return packet;
      const [sparse, bulk] = this.lanes;
      const fatter = sparse.queue.backlogBytes > bulk.queue.backlogBytes ? sparse : bulk;
      if (!fatter.queue.dropFromFattest()) return null;
    }
  }
}

function other(lane: LaneIndex): LaneIndex {
  return lane === SPARSE ? BULK : SPARSE;
}

function isAlwaysSparse(v: InnerView): boolean {
  if (v.protocol === PROTO_ICMP || v.protocol === PROTO_ICMP6) return true;
  return v.protocol === PROTO_UDP && (v.srcPort === DNS_PORT || v.dstPort === DNS_PORT);
}

function isOffloadable(v: InnerView, gsoSize: number): boolean {
  if (!v.hasPorts || v.isFragment) return false;
  return gsoSize === 0 || v.protocol === PROTO_TCP;
}
