/**
 * The flow lane: takes from the TUN the TCP flows that the rules send a way of their own (relay, direct, convert), ends them
 * here (core/flows) and joins each with a far side of its own. Everything else is left to the packet lane, as are packets of
 * TCP connections whose SYN was not seen here.
 *
 *   SYN → rules → dialer → far side connected → SYN/ACK → splice      (dial failed → RST, ICMP or silence)
 */
import type { CoreEnv } from '../../core/base/env.js';
import { type Micros, NEVER } from '../../core/base/time.js';
import type { ConnectionApi, Edge, Endpoint } from '../../core/engine/api.js';
import type { ReceiveBatch, TransmitBatch, TunPort } from '../../core/engine/ports.js';
import type { FlowAttempt, Refusal } from '../../core/flows/attempt.js';
import type { TerminatedFlow } from '../../core/flows/flow.js';
import { Terminator } from '../../core/flows/terminator.js';
import { DeadlineTimer } from '../../native/index.js';
import type { CarriedFlow } from '../receipts.js';
import {
  type DialFailure,
  type FlowDecision,
  type FlowDialer,
  type FlowRules,
  type FlowTarget,
  failureOf,
} from './contract.js';
import { Splice, type SpliceHost } from './splice.js';

/** No application waits longer for its SYN's answer (Linux: 127 s with tcp_syn_retries 6). */
const DIAL_TIMEOUT_MS = 130_000;
/** Dials begun in one turn of the event loop. */
const DIALS_PER_TURN = 8;

export interface FlowLaneOptions {
  readonly env: CoreEnv;
  readonly tun: TunPort;
  readonly mtuBytes: number;
  readonly rules: FlowRules;
  nowUs(): Micros;
  /** The way's dialer; undefined: the way cannot be had, and the flow goes as packets. */
  dialer(way: FlowDecision['way']): FlowDialer | undefined;
  /** A flow's bytes came through the tunnel for an application (not: straight from the destination). */
  onDelivered(bytes: number): void;
  /** Scheduler of what a flow of this mode sends. */
  schedulerOf(mode: FlowDecision['mode']): string;
}

/** One flow, for `mptun flows`. */
export interface LaneFlow {
  readonly id: number;
  readonly target: FlowTarget;
  readonly decision: FlowDecision;
  readonly source: Endpoint;
  readonly startedUs: Micros;
  readonly state: 'dialing' | 'open' | 'closed';
  readonly connection: ConnectionApi | null;
  /** The application's bytes, up and down. */
  readonly bytesUp: number;
  readonly bytesDown: number;
}

export class FlowLane implements Edge, SpliceHost {
  readonly terminator: Terminator;
  /** Dials that failed, by kind. */
  readonly failures: Record<string, number> = {};
  /** Of applications, through the tunnel; monotonic. */
  readonly relayedBytes = { up: 0, down: 0 };
  private readonly flows = new Map<number, OwnFlow>();
  private readonly timer: DeadlineTimer;
  private waiting = new Set<Splice>();
  /** Flows whose dial has not begun; at most as many as the terminator takes. */
  private readonly due: (() => void)[] = [];
  private nextId = 1;
  private isScheduled = false;
  private isClosed = false;

  constructor(private readonly options: FlowLaneOptions) {
    this.terminator = new Terminator(options.env, {
      mtuBytes: options.mtuBytes,
      onSyn: (attempt) => this.onSyn(attempt),
    });
    this.timer = new DeadlineTimer(() => {
      this.terminator.onTimer(this.nowUs());
      this.flush();
    });
  }

  /** Packet `i` of a batch of the TUN. True: it was taken; false: it is the packet lane's. */
  onPacket(nowUs: Micros, batch: ReceiveBatch, i: number): boolean {
    return this.terminator.onPacket(nowUs, batch, i);
  }

  /** After the last batch of the TUN, and after each flush of the engine below: connections may have room. */
  flush(): void {
    this.isScheduled = false;
    if (this.isClosed) return;
    this.terminator.flush(this.nowUs(), this);
    const atUs = this.terminator.nextDeadline();
    if (atUs !== NEVER) this.timer.set(atUs);
  }

  onEngineFlushed(): void {
    if (this.waiting.size === 0) return;
    const waiting = this.waiting;
    this.waiting = new Set();
    for (const splice of waiting) splice.retry();
  }

  /** Open flows that go through the tunnel. */
  relayed(): CarriedFlow[] {
    return [...this.flows.values()].flatMap((flow) => flow.relayed ?? []);
  }

  list(): LaneFlow[] {
    return [...this.flows.values()];
  }

  get size(): number {
    return this.flows.size;
  }

  /** Every application is told by a RST: nobody is there any more to carry on. */
  close(): void {
    for (const flow of this.flows.values()) flow.abort();
    this.flush();
    this.isClosed = true;
    this.timer.close();
  }

  // ---- SpliceHost and Edge -----------------------------------------------------------------------------------------

  nowUs(): Micros {
    return this.options.nowUs();
  }

  flushSoon(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    process.nextTick(() => this.flush());
  }

  wait(splice: Splice): void {
    this.waiting.add(splice);
  }

  onDelivered(splice: Splice, bytes: number): void {
    if (splice.outbound.way !== 'relay') return;
    this.relayedBytes.down += bytes;
    this.options.onDelivered(bytes);
  }

  onSent(splice: Splice, bytes: number): void {
    if (splice.outbound.way === 'relay') this.relayedBytes.up += bytes;
  }

  /** A TUN that takes nothing is down: what is refused is lost, as on any wire. */
  send(_linkId: number, batch: TransmitBatch, from: number): number {
    this.options.tun.send(batch, from);
    return batch.count - from;
  }

  queuedBytes(): number {
    return 0;
  }

  // ---- Flows -------------------------------------------------------------------------------------------------------

  private onSyn(attempt: FlowAttempt): boolean {
    const { source, dscp } = attempt;
    const { address, port } = attempt.target;
    const target: FlowTarget = { host: address.text, port, address, source, dscp };
    const decision = this.options.rules.decide(target);
    if (decision.way === 'packet') return false;
    const dialer = this.options.dialer(decision.way);
    if (dialer === undefined) return false;
    const flow = new OwnFlow(this.nextId++, target, decision, attempt, this);
    this.flows.set(flow.id, flow);
    this.due.push(() => void flow.open(dialer, this.options.schedulerOf(decision.mode)));
    if (this.due.length === 1) setImmediate(this.dialSome);
    return true;
  }

  /** In a burst of SYNs everybody else's packets must not wait: the TUN's queue is short, and the kernel drops behind it. */
  private readonly dialSome = (): void => {
    for (const open of this.due.splice(0, DIALS_PER_TURN)) open();
    if (this.due.length > 0) setImmediate(this.dialSome);
  };

  onOver(flow: OwnFlow): void {
    this.flows.delete(flow.id);
    if (flow.failure !== null) this.failures[flow.failure] = (this.failures[flow.failure] ?? 0) + 1;
  }
}

class OwnFlow implements LaneFlow {
  readonly source: Endpoint;
  readonly startedUs: Micros;
  state: LaneFlow['state'] = 'dialing';
  failure: DialFailure | null = null;
  private splice: Splice | null = null;
  private inner: TerminatedFlow | null = null;
  private readonly dialing = new AbortController();

  constructor(
    readonly id: number,
    readonly target: FlowTarget,
    readonly decision: FlowDecision,
    private readonly attempt: FlowAttempt,
    private readonly lane: FlowLane,
  ) {
    this.source = attempt.source;
    this.startedUs = lane.nowUs();
  }

  get connection(): ConnectionApi | null {
    return this.splice?.outbound.connection ?? null;
  }

  get relayed(): CarriedFlow | null {
    const { splice } = this;
    if (splice === null || splice.outbound.way !== 'relay') return null;
    return { connection: splice.outbound.connection, movedUs: splice.movedUs };
  }

  get bytesUp(): number {
    return this.inner?.bytesReceived ?? 0;
  }

  get bytesDown(): number {
    return this.inner?.bytesAcked ?? 0;
  }

  async open(dialer: FlowDialer, scheduler: string): Promise<void> {
    if (!this.attempt.isPending) {
      this.close();
      return;
    }
    const timer = setTimeout(() => this.dialing.abort(), DIAL_TIMEOUT_MS);
    try {
      const outbound = await dialer.dial(this.target, this.dialing.signal);
      const inner = this.attempt.accept(this.lane.nowUs());
      if (inner === null) {
        outbound.abort();
        this.close();
        return;
      }
      this.state = 'open';
      outbound.connection.setScheduler(scheduler);
      this.inner = inner;
      inner.onOver = (why) => {
        if (why !== 'done') this.splice?.abort();
        this.close();
      };
      this.splice = new Splice(inner, outbound, this.lane);
    } catch (error) {
      this.failure = failureOf(error);
      this.attempt.refuse(this.lane.nowUs(), refusalFor(this.failure));
      this.close();
    } finally {
      clearTimeout(timer);
      this.lane.flushSoon();
    }
  }

  abort(): void {
    this.dialing.abort();
    this.attempt.refuse(this.lane.nowUs(), 'refused');
    this.splice?.abort();
  }

  private close(): void {
    this.state = 'closed';
    this.lane.onOver(this);
  }
}

/** A kernel says nothing where nothing was heard; where a way does not work now, its SYN again may find that it does. */
function refusalFor(failure: DialFailure): Refusal {
  return failure === 'timeout' || failure === 'unavailable' ? 'silence' : failure;
}
