/**
 * TCP connections that applications open through a TUN, ended here instead of being carried as packets: a SYN to any address
 * and port may be taken (`onSyn`), and the flow's bytes then have an owner (flow.ts). What belongs to no flow of ours is left
 * alone. Sans-I/O, as the engine: packets, time and luck are arguments, packets leave through `flush`.
 *
 *   onPacket(now, batch, i)* / onTimer(now) / calls on flows and attempts  →  flush(now, edge)  →  nextDeadline()
 */
import type { CoreEnv } from '../base/env.js';
import { type Micros, NEVER } from '../base/time.js';
import { TimerQueue } from '../base/timer-queue.js';
import { TokenBucket } from '../base/token-bucket.js';
import { controllers } from '../congestion/index.js';
import type { Edge } from '../engine/api.js';
import { Demux } from '../engine/demux.js';
import { Link } from '../engine/link.js';
import { CSUM_UNKNOWN, HEADER_SLOT_BYTES, LINK_HEADROOM_BYTES, type ReceiveBatch } from '../engine/ports.js';
import type { FlowTuple } from '../tcp/flow.js';
import { IsnGenerator } from '../tcp/isn.js';
import { resetFor } from '../tcp/reset.js';
import { DEFAULT_SUBFLOW_CONFIG, type SubflowConfig } from '../tcp/subflow.js';
import { IcmpErrorView, MAX_ICMP_ERROR_BYTES, parseIcmpError, writeIcmpError } from '../wire/icmp.js';
import { ipHeaderBytes, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP } from '../wire/ip.js';
import { parseSegment, SegmentView, TCP_ACK, TCP_RST, TCP_SYN, verifyTcpChecksum } from '../wire/segment.js';
import { finishTcpHeader, writeTcpHeader } from '../wire/tcp.js';
import { type AttemptHost, FlowAttempt, flowOf, type Refusal } from './attempt.js';
import { TerminatedFlow } from './flow.js';
import { FLOW_CONGESTION, FLOW_TCP, MAX_ANSWERS_PER_S, MAX_FLOWS, MAX_WINDOWS_BYTES } from './settings.js';

/** What a flow needs of its terminator. */
export interface FlowHost {
  readonly env: CoreEnv;
  markDirty(flow: TerminatedFlow): void;
  tsOffset(flow: FlowTuple): number;
  /** True: the flow's window may grow by this much. */
  takeWindow(bytes: number): boolean;
  /** `grownBytes`: by so much its window has grown. */
  onFlowClosed(flow: TerminatedFlow, grownBytes: number): void;
}

export interface TerminatorOptions {
  readonly mtuBytes: number;
  /** Overrides of the flows' TCP settings. */
  readonly tcp?: Partial<SubflowConfig>;
  readonly maxFlows?: number;
  /** By so much the windows of all flows may have grown together. */
  readonly maxWindowsBytes?: number;
  /**
   * A SYN of no flow. False: it is not ours, and goes on as a packet. Who says true must `accept` or `refuse` it later; not
   * from within.
   */
  onSyn(attempt: FlowAttempt): boolean;
}

/** The TUN, as `Link` and tuples name it. */
const TUN_LINK_ID = 0;
/** Rounds of one flush in which flows that became dirty on the way are polled again. */
const MAX_FLUSH_ROUNDS = 4;
/** While the TUN refuses packets, try again after this. */
const RETRY_US: Micros = 500;
/** How far above the last connection's numbers the next one of the same four-tuple begins, at least. */
const ISN_STEP = 0x1_0000;

export class Terminator implements FlowHost, AttemptHost {
  /** Monotonic counters: what was dropped, refused, and why. */
  readonly counters: Record<string, number> = {};
  private readonly flows = new Demux<TerminatedFlow>();
  private readonly attempts = new Demux<FlowAttempt>();
  private readonly timers = new TimerQueue<TerminatedFlow>();
  private dirty = new Set<TerminatedFlow>();
  private readonly live = new Set<TerminatedFlow>();
  private readonly seg = new SegmentView();
  private readonly icmp = new IcmpErrorView();
  private readonly isns: IsnGenerator;
  private readonly answers = new TokenBucket(MAX_ANSWERS_PER_S);
  private readonly link: Link;
  private readonly config: SubflowConfig;
  private readonly maxFlows: number;
  private readonly maxWindowsBytes: number;
  private windowBytes = 0;
  private retryAtUs: Micros = NEVER;
  /** Answers without a flow that wait for a flush. */
  private readonly pendingAnswers: (() => void)[] = [];

  constructor(
    readonly env: CoreEnv,
    private readonly options: TerminatorOptions,
  ) {
    this.isns = new IsnGenerator(env);
    this.maxFlows = options.maxFlows ?? MAX_FLOWS;
    this.maxWindowsBytes = options.maxWindowsBytes ?? MAX_WINDOWS_BYTES;
    this.link = new Link({ id: TUN_LINK_ID, name: 'tun', mtuBytes: options.mtuBytes, addresses: [], isUp: true });
    this.config = {
      ...DEFAULT_SUBFLOW_CONFIG,
      ...FLOW_TCP,
      ...options.tcp,
      mtuBytes: options.mtuBytes,
      congestion: controllers[FLOW_CONGESTION]!,
    };
  }

  /** Flows that live, without those in TIME-WAIT; and SYNs that wait for an answer. */
  get flowCount(): number {
    return this.live.size;
  }

  get attemptCount(): number {
    return this.attempts.size;
  }

  // ---- Packets in --------------------------------------------------------------------------------------------------

  /** Packet `i` of the batch. True: it was ours, and is dealt with; false: it is no packet of a flow that ends here. */
  onPacket(nowUs: Micros, batch: ReceiveBatch, i: number): boolean {
    const { seg } = this;
    const result = parseSegment(batch.slab, batch.offset[i]!, batch.length[i]!, batch.gsoSize[i]!, seg);
    if (result === 'not-tcp') return this.flows.size > 0 && this.onOtherProtocol(nowUs);
    if (result !== 'ok') return false;
    const isSyn = (seg.flags & (TCP_SYN | TCP_ACK | TCP_RST)) === TCP_SYN;
    if (!isSyn && this.flows.size === 0) return false;
    const flow = this.flows.find(seg);
    if (flow === undefined && !isSyn) return false;
    if (batch.checksum[i] === CSUM_UNKNOWN && !verifyTcpChecksum(batch.slab, seg)) {
      this.count('drop_bad_tcp_checksum');
      return true;
    }
    if (flow === undefined) return this.onNewSyn(-1);
    if (isSyn && flow.tcp.acceptsNewSyn(seg)) return this.reopen(nowUs, flow);
    flow.tcp.onSegment(nowUs, seg);
    this.markDirty(flow);
    return true;
  }

  /** `isnAbove`: our number must lie above this one; -1: any will do. */
  private onNewSyn(isnAbove: number): boolean {
    const { seg } = this;
    const waiting = this.attempts.find(seg);
    if (waiting !== undefined) {
      waiting.note(seg);
      this.count('syn_again');
      return true;
    }
    if (this.flows.size + this.attempts.size >= this.maxFlows) {
      this.count('flows_full');
      return false;
    }
    const attempt = new FlowAttempt(this, flowOf(seg, TUN_LINK_ID), seg, isnAbove);
    if (!this.options.onSyn(attempt)) {
      attempt.isPending = false;
      return false;
    }
    this.attempts.add(attempt);
    this.count('syn');
    return true;
  }

  /** A SYN ends a TIME-WAIT (RFC 9293 3.6.1, RFC 6191); our numbers of the new connection lie above those of the old. */
  private reopen(nowUs: Micros, old: TerminatedFlow): boolean {
    old.tcp.abort(nowUs, false);
    this.forget(old);
    return this.onNewSyn((old.tcp.iss + old.tcp.sndNxt) >>> 0);
  }

  /** ICMP errors about what we sent to applications that are not on this host. */
  private onOtherProtocol(nowUs: Micros): boolean {
    const { seg, icmp } = this;
    if (seg.protocol !== PROTO_ICMP && seg.protocol !== PROTO_ICMPV6) return false;
    if (parseIcmpError(seg, icmp) !== 'ok' || icmp.quotedProtocol !== PROTO_TCP) return false;
    const { quotedSrcOff, quotedDstOff, quotedSrcPort, quotedDstPort } = icmp;
    const flow = this.flows.lookup(icmp.buf, icmp.family, quotedSrcOff, quotedDstOff, quotedSrcPort, quotedDstPort);
    if (flow === undefined) return false;
    flow.tcp.onIcmp(nowUs, icmp.errorClass, icmp.mtuBytes, icmp.quotedSeq);
    this.markDirty(flow);
    return true;
  }

  // ---- Answers to SYNs (AttemptHost) -------------------------------------------------------------------------------

  acceptFlow(nowUs: Micros, attempt: FlowAttempt): TerminatedFlow {
    const flow = new TerminatedFlow(this, attempt.flow, this.config, this.isn(nowUs, attempt));
    this.attempts.remove(attempt);
    this.flows.add(flow);
    this.live.add(flow);
    const { packet } = attempt;
    parseSegment(packet, 0, packet.length, 0, this.seg);
    flow.tcp.accept(nowUs, this.seg);
    this.markDirty(flow);
    return flow;
  }

  refuseFlow(nowUs: Micros, attempt: FlowAttempt, how: Refusal): void {
    this.attempts.remove(attempt);
    this.count(`refused_${how}`);
    if (how === 'silence' || !this.answers.take(nowUs)) return;
    this.pendingAnswers.push(() => {
      const { packet } = attempt;
      parseSegment(packet, 0, packet.length, 0, this.seg);
      if (how === 'refused') this.reset(attempt.flow);
      else this.error(attempt.flow, how);
    });
  }

  /** RFC 9293 3.10.7.1, of the segment in `seg`. */
  private reset(flow: FlowTuple): void {
    const numbers = resetFor(this.seg);
    if (numbers === null) return;
    const { headers, batch } = this.link;
    const start = batch.count * HEADER_SLOT_BYTES + LINK_HEADROOM_BYTES + ipHeaderBytes(flow.family);
    const { seq, ack, flags } = numbers;
    const end = writeTcpHeader(headers, start, flow.localPort, flow.remotePort, seq, ack, flags, 0);
    const tcpBytes = finishTcpHeader(headers, start, end);
    this.link.add(flow.localAddress, flow.remoteAddress, start, tcpBytes, NO_PARTS, 0, 0, 0, false);
  }

  /** In the destination's name, as a host that knows nothing of us expects it (RFC 792; RFC 4443 3.1). */
  private error(flow: FlowTuple, how: 'unreachable' | 'denied'): void {
    const packet = new Uint8Array(MAX_ICMP_ERROR_BYTES);
    const kind = how === 'denied' ? 'prohibited' : 'host-unreachable';
    const bytes = writeIcmpError(packet, 0, kind, 0, flow.localAddress, this.seg);
    if (bytes > 0) this.link.addPacket(packet.subarray(0, bytes), flow.family);
  }

  // ---- Time and packets out ----------------------------------------------------------------------------------------

  onTimer(nowUs: Micros): void {
    for (let f = this.timers.takeDue(nowUs); f !== undefined; f = this.timers.takeDue(nowUs)) this.dirty.add(f);
    if (this.retryAtUs <= nowUs) this.retryAtUs = NEVER;
  }

  nextDeadline(): Micros {
    return Math.min(this.timers.nextUs(), this.retryAtUs);
  }

  /** Sends everything that may go now. Call after every input. */
  flush(nowUs: Micros, edge: Edge): void {
    const { link } = this;
    link.begin(edge, () => 0);
    while (this.pendingAnswers.length > 0 && link.hasRoom()) this.pendingAnswers.shift()!();
    for (let round = 0; round < MAX_FLUSH_ROUNDS && this.dirty.size > 0; round++) {
      const polled = this.dirty;
      this.dirty = new Set();
      for (const flow of polled) this.poll(nowUs, flow);
    }
    link.finish();
    const isLeft = this.dirty.size > 0 || this.pendingAnswers.length > 0 || link.isBlocked;
    this.retryAtUs = isLeft ? nowUs + (link.isBlocked ? RETRY_US : 0) : NEVER;
  }

  private poll(nowUs: Micros, flow: TerminatedFlow): void {
    flow.poll(nowUs, this.link);
    if (flow.tcp.state === 'closed' && !flow.hasWork(nowUs)) {
      this.forget(flow);
      return;
    }
    if (flow.hasWork(nowUs) && !this.link.hasRoom()) this.dirty.add(flow);
    const at = Math.ceil(flow.nextDeadline());
    if (at !== NEVER) this.timers.set(flow, Math.max(at, nowUs + 50));
  }

  private forget(flow: TerminatedFlow): void {
    this.flows.remove(flow);
    this.live.delete(flow);
    this.timers.delete(flow);
    this.dirty.delete(flow);
  }

  // ---- FlowHost ----------------------------------------------------------------------------------------------------

  markDirty(flow: TerminatedFlow): void {
    this.dirty.add(flow);
  }

  tsOffset(flow: FlowTuple): number {
    return this.isns.tsOffset(flow);
  }

  takeWindow(bytes: number): boolean {
    if (this.windowBytes + bytes > this.maxWindowsBytes) return false;
    this.windowBytes += bytes;
    return true;
  }

  onFlowClosed(flow: TerminatedFlow, grownBytes: number): void {
    this.live.delete(flow);
    this.windowBytes -= grownBytes;
  }

  private isn(nowUs: Micros, { flow, isnAbove }: FlowAttempt): number {
    const isn = this.isns.next(nowUs, flow);
    return isnAbove < 0 || ((isn - isnAbove) | 0) > 0 ? isn : (isnAbove + ISN_STEP) >>> 0;
  }

  private count(name: string): void {
    this.counters[name] = (this.counters[name] ?? 0) + 1;
  }
}

const NO_PARTS: readonly Uint8Array[] = [];
