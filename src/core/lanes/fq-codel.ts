/**
 * FQ-CoDel: flow queues served by deficit round robin, new flows first (RFC 8290 §4), each under CoDel (RFC 8289 §5),
 * which marks ECN-capable packets instead of dropping them. Packets are references; the pool bounds their memory. It is
 * pulled: nothing leaves before somebody asks.
 *
 * Two differences from the RFCs, both for super-packets: a drop takes one segment off the front and leaves the rest, and
 * a flow may be *held* (kept, not served) while its earlier packets are still on their way elsewhere (packet-lane.ts).
 */
import type { Micros } from '../base/time.js';
import { markCe, PROTO_TCP } from './inner-packet.js';
import type { PacketPool, QueuedPacket } from './packet-pool.js';
import { dropFirstSegment } from './super-packet.js';

/** RFC 8290 §5.2.1, §5.2.2: for the Internet at large. */
export const CODEL_TARGET_US = 5_000;
export const CODEL_INTERVAL_US = 100_000;
/** §5.2.4: one MTU of Ethernet. */
const QUANTUM_BYTES = 1_514;
/** §5.2.3: number of flow queues, a power of two. */
export const FLOW_QUEUES = 1024;
/** §4.1.3 (and Linux's drop_batch_size): dropped from the fattest queue when memory runs out. */
const OVERFLOW_BATCH = 64;
/** RFC 8289 §5.3: a count from a dropping state that ended less than this many intervals ago is taken up again. */
const RECENT_INTERVALS = 16;

type ListName = 0 | 1 | 2;
const IDLE: ListName = 0;
const NEW: ListName = 1;
const OLD: ListName = 2;

/** One flow queue with its CoDel state (names of RFC 8289 §5.5). */
class FlowQueue {
  head: QueuedPacket | null = null;
  tail: QueuedPacket | null = null;
  bytes = 0;
  deficit = 0;
  list: ListName = IDLE;
  held = false;
  next: FlowQueue | null = null;

  firstAboveUs = 0;
  dropNextUs = 0;
  count = 0;
  lastCount = 0;
  dropping = false;

  constructor(readonly index: number) {}
}

class FlowList {
  head: FlowQueue | null = null;
  private tail: FlowQueue | null = null;

  push(flow: FlowQueue): void {
    flow.next = null;
    if (this.tail === null) this.head = flow;
    else this.tail.next = flow;
    this.tail = flow;
  }

  shift(): void {
    const flow = this.head!;
    this.head = flow.next;
    if (this.head === null) this.tail = null;
    flow.next = null;
  }
}

export interface FqCodelCounters {
  marked: number;
  droppedByCodel: number;
  droppedSegments: number;
  droppedOnOverflow: number;
  /** Of what nobody sends again, and nobody wants any more (`lifetimeUs`). */
  droppedLate: number;
}

export class FqCodel {
  backlogBytes = 0;
  backlogPackets = 0;
  readonly counters: FqCodelCounters = {
    marked: 0,
    droppedByCodel: 0,
    droppedSegments: 0,
    droppedOnOverflow: 0,
    droppedLate: 0,
  };
  /** Told of each packet (or first segment of one) that was dropped, before it goes. */
  onDrop: (flowIndex: number, packet: QueuedPacket) => void = () => {};

  private readonly flows: FlowQueue[] = [];
  private readonly newFlows = new FlowList();
  private readonly oldFlows = new FlowList();
  private heldPackets = 0;
  /** Sojourn time that may stand, and for how long it may be exceeded. */
  targetUs: Micros = CODEL_TARGET_US;
  intervalUs: Micros = CODEL_INTERVAL_US;
  /** Packets other than TCP's that have waited longer are dropped, the oldest first: a call or a query is not late, it is over. */
  lifetimeUs: Micros = Number.POSITIVE_INFINITY;
  /** Result of `codelHead`: the sojourn time asks for a drop. */
  private okToDrop = false;

  constructor(
    private readonly pool: PacketPool,
    private readonly mtuBytes: number,
  ) {
    for (let i = 0; i < FLOW_QUEUES; i++) this.flows.push(new FlowQueue(i));
  }

  /** True when `dequeue` could return a packet. */
  get hasReady(): boolean {
    return this.backlogPackets > this.heldPackets;
  }

  flowBytes(index: number): number {
    return this.flows[index]!.bytes;
  }

  /** Appends to flow queue `index` (§4.1). The queue owns the packet from here on. */
  enqueue(nowUs: Micros, index: number, packet: QueuedPacket): void {
    const flow = this.flows[index]!;
    this.dropLate(nowUs, flow);
    packet.enqueuedUs = nowUs;
    packet.next = null;
    if (flow.tail === null) flow.head = packet;
    else flow.tail.next = packet;
    flow.tail = packet;
    flow.bytes += packet.view.totalBytes;
    this.backlogBytes += packet.view.totalBytes;
    this.backlogPackets++;
    if (flow.held) this.heldPackets++;
    else if (flow.list === IDLE) this.activate(flow);
  }

  /** Next packet (§4.2), or null. The caller owns it. */
  dequeue(nowUs: Micros): QueuedPacket | null {
    for (;;) {
      const fromNew = this.newFlows.head !== null;
      const list = fromNew ? this.newFlows : this.oldFlows;
      const flow = list.head;
      if (flow === null) return null;
      if (flow.held) {
        list.shift();
        flow.list = IDLE;
        continue;
      }
      if (flow.deficit <= 0) {
        flow.deficit += QUANTUM_BYTES;
        list.shift();
        flow.list = OLD;
        this.oldFlows.push(flow);
        continue;
      }
      this.dropLate(nowUs, flow);
      const packet = this.codel(nowUs, flow);
      if (packet === null) {
        list.shift();
        // §4.2: an emptied new queue goes to the old ones first, so that it cannot claim to be new all the time.
        if (fromNew && this.oldFlows.head !== null) {
          flow.list = OLD;
          this.oldFlows.push(flow);
        } else {
          flow.list = IDLE;
        }
        continue;
      }
      flow.deficit -= packet.view.totalBytes;
      return packet;
    }
  }

  private dropLate(nowUs: Micros, flow: FlowQueue): void {
    for (let p = flow.head; p !== null && nowUs - p.enqueuedUs > this.lifetimeUs; p = flow.head) {
      if (p.view.protocol === PROTO_TCP) return;
      this.counters.droppedLate++;
      this.drop(flow, this.unlinkHead(flow));
    }
  }

  /** Keeps a flow's packets back until `release`. */
  hold(index: number): void {
    const flow = this.flows[index]!;
    if (flow.held) return;
    flow.held = true;
    for (let p = flow.head; p !== null; p = p.next) this.heldPackets++;
  }

  release(index: number): void {
    const flow = this.flows[index]!;
    if (!flow.held) return;
    flow.held = false;
    for (let p = flow.head; p !== null; p = p.next) this.heldPackets--;
    if (flow.head !== null && flow.list === IDLE) this.activate(flow);
  }

  /** Makes room when the pool is empty (§4.1.3): drops from the head of the fattest queue. False: nothing was queued. */
  dropFromFattest(): boolean {
    let fattest: FlowQueue | null = null;
    for (const flow of this.flows) if (flow.bytes > (fattest?.bytes ?? 0)) fattest = flow;
    if (fattest === null) return false;
    const goal = fattest.bytes / 2;
    for (let n = 0; n < OVERFLOW_BATCH && fattest.head !== null && fattest.bytes > goal; n++) {
      this.drop(fattest, this.unlinkHead(fattest));
      this.counters.droppedOnOverflow++;
    }
    return true;
  }

  /** Drops everything (the connection is gone for good). */
  clear(): void {
    for (const flow of this.flows) while (flow.head !== null) this.drop(flow, this.unlinkHead(flow));
  }

  private activate(flow: FlowQueue): void {
    flow.list = NEW;
    flow.deficit = QUANTUM_BYTES;
    this.newFlows.push(flow);
  }

  /** RFC 8289 §5.5, deque(). */
  private codel(nowUs: Micros, flow: FlowQueue): QueuedPacket | null {
    let packet = this.codelHead(nowUs, flow);
    if (packet === null) {
      flow.dropping = false;
      return null;
    }
    if (flow.dropping) {
      if (!this.okToDrop) flow.dropping = false;
      while (flow.dropping && nowUs >= flow.dropNextUs) {
        flow.count++;
        if (this.mark(packet)) {
          flow.dropNextUs = this.controlLaw(flow.dropNextUs, flow.count);
          break;
        }
        packet = this.dropAndNext(nowUs, flow, packet);
        if (packet === null) {
          flow.dropping = false;
          return null;
        }
        if (!this.okToDrop) flow.dropping = false;
        else flow.dropNextUs = this.controlLaw(flow.dropNextUs, flow.count);
      }
    } else if (this.okToDrop) {
      if (!this.mark(packet)) {
        packet = this.dropAndNext(nowUs, flow, packet);
        if (packet === null) return null;
      }
      flow.dropping = true;
      const delta = flow.count - flow.lastCount;
      const isRecent = nowUs - flow.dropNextUs < RECENT_INTERVALS * this.intervalUs;
      flow.count = delta > 1 && isRecent ? delta : 1;
      flow.dropNextUs = this.controlLaw(nowUs, flow.count);
      flow.lastCount = flow.count;
    }
    return packet;
  }

  /** §5.6, dodequeue(): takes the head off and says whether it stayed too long for a whole interval. */
  private codelHead(nowUs: Micros, flow: FlowQueue): QueuedPacket | null {
    this.okToDrop = false;
    if (flow.head === null) {
      flow.firstAboveUs = 0;
      return null;
    }
    const packet = this.unlinkHead(flow);
    this.judge(nowUs, flow, packet);
    return packet;
  }

  private judge(nowUs: Micros, flow: FlowQueue, packet: QueuedPacket): void {
    this.okToDrop = false;
    if (nowUs - packet.enqueuedUs < this.targetUs || flow.bytes <= this.mtuBytes) {
      flow.firstAboveUs = 0;
    } else if (flow.firstAboveUs === 0) {
      flow.firstAboveUs = nowUs + this.intervalUs;
    } else {
      this.okToDrop = nowUs >= flow.firstAboveUs;
    }
  }

  private mark(packet: QueuedPacket): boolean {
    if (!markCe(packet.buf, packet.start)) return false;
    this.counters.marked++;
    return true;
  }

  /** Drops a packet, or the first segment of a super-packet, and returns what comes next. */
  private dropAndNext(nowUs: Micros, flow: FlowQueue, packet: QueuedPacket): QueuedPacket | null {
    const v = packet.view;
    if (packet.gsoSize > 0 && v.totalBytes - v.headerBytes > packet.gsoSize) {
      this.onDrop(flow.index, packet);
      dropFirstSegment(packet.buf, packet.start, v, packet.gsoSize);
      packet.start += packet.gsoSize;
      this.counters.droppedSegments++;
      this.judge(nowUs, flow, packet);
      return packet;
    }
    this.counters.droppedByCodel++;
    this.drop(flow, packet);
    return this.codelHead(nowUs, flow);
  }

  private drop(flow: FlowQueue, packet: QueuedPacket): void {
    this.onDrop(flow.index, packet);
    this.pool.give(packet);
  }

  private unlinkHead(flow: FlowQueue): QueuedPacket {
    const packet = flow.head!;
    flow.head = packet.next;
    if (flow.head === null) flow.tail = null;
    packet.next = null;
    flow.bytes -= packet.view.totalBytes;
    this.backlogBytes -= packet.view.totalBytes;
    this.backlogPackets--;
    if (flow.held) this.heldPackets--;
    return packet;
  }

  /** RFC 8289 §5.4. */
  private controlLaw(fromUs: Micros, count: number): Micros {
    return fromUs + this.intervalUs / Math.sqrt(count);
  }
}
