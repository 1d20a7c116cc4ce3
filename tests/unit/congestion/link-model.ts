/**
 * A packet-level model of one bottleneck, to drive controllers with the ACK samples that they would really see: rate,
 * one-way delay, a drop-tail queue in bytes, random loss, super-packet pacing, delayed ACKs, RACK-like loss marking,
 * delivery-rate samples as draft-ietf-ccwg-bbr computes them. Everything is seeded: same input, same integers.
 * Payload is fungible (a retransmission is just the next packet), the ACK path has no loss and no queue.
 */
import {
  AckSample,
  type CongestionController,
  type ControllerFactory,
} from '../../../src/core/congestion/controller.js';

export interface LinkSpec {
  readonly rateBitsPerS: number;
  readonly delayUs: number;
  readonly queueUs: number;
  /** Independent loss behind the queue, 0..1. */
  readonly loss?: number;
  /** Rate changes: from `atUs` on. */
  readonly changes?: readonly { readonly atUs: number; readonly rateBitsPerS: number }[];
  /** Nothing gets through in [from, to). */
  readonly darkUs?: readonly [number, number];
  /** Uniform extra delay per packet, in order, 0..jitterUs. */
  readonly jitterUs?: number;
}

export interface FlowSpec {
  readonly factory: ControllerFactory;
  readonly startUs?: number;
  /** The application has nothing to send in [from, to). */
  readonly idleUs?: readonly [number, number];
  /** Application limit, bit/s. */
  readonly appBitsPerS?: number;
}

export interface FlowResult {
  readonly controller: CongestionController;
  deliveredBytes: number;
  sentPackets: number;
  lostPackets: number;
  rtos: number;
  /** Once per trace interval: cwnd and bytes in flight in packets, delivered bytes so far. */
  readonly cwndTrace: number[];
  readonly inFlightTrace: number[];
  readonly deliveredTrace: number[];
}

export interface RunResult {
  readonly flows: readonly FlowResult[];
  /** Queueing delay at each trace instant, us. */
  readonly queueTraceUs: number[];
  /** Delivered bytes of all flows in [from, to) over what the link could carry. */
  utilisation(fromUs: number, toUs: number): number;
  /** Quantile of the sampled queueing delay in [from, to). */
  queueUs(quantile: number, fromUs: number, toUs: number): number;
}

export const MSS = 1400;
const TRACE_US = 5_000;
const INITIAL_CWND = 10;
const MIN_RTO_US = 200_000;
const REORDER_PACKETS = 3;

/** mulberry32. */
export function rng(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export interface Packet {
  flow: Flow;
  /** What a subclass wants to remember: -1 here. */
  tag: number;
  seq: number;
  sentUs: number;
  deliveredAtSend: number;
  deliveredUsAtSend: number;
  firstSentUs: number;
  isAppLimited: boolean;
  state: 'flight' | 'delivered' | 'lost';
}

/** A bottleneck in action. */
class Link {
  busyUntilUs = 0;
  lastArrivalUs = 0;
  constructor(readonly spec: LinkSpec) {}
}

export class Flow implements FlowResult {
  readonly controller: CongestionController;
  deliveredBytes = 0;
  sentPackets = 0;
  lostPackets = 0;
  rtos = 0;
  readonly cwndTrace: number[] = [];
  readonly inFlightTrace: number[] = [];
  readonly deliveredTrace: number[] = [];

  nextSeq = 0;
  inFlight = 0;
  outstanding: Packet[] = [];
  recoveryPoint = -1;
  kind: 'none' | 'fast' | 'rto' = 'none';
  deliveredUs = 0;
  firstSentUs = 0;
  appLimitedUntil = -1;
  srttUs = 0;
  rttVarUs = 0;
  minRttUs = Number.POSITIVE_INFINITY;
  nextSendUs = 0;
  lastProgressUs = 0;
  rtoBackoff = 1;
  lastSentUs = 0;
  wasLimited = true;
  appBytes = 0;
  appUs = 0;
  /** Packets the receiver holds back (delayed ACK). */
  unacked: Packet[] = [];
  ackTimer = 0;
  sendTimer = Number.POSITIVE_INFINITY;
  readonly sample = new AckSample();

  constructor(
    readonly spec: FlowSpec,
    readonly link: Link,
  ) {
    this.controller = spec.factory({ mssBytes: MSS, initialCwndSegments: INITIAL_CWND });
  }

  get rtoUs(): number {
    const base = this.srttUs === 0 ? 1_000_000 : Math.max(MIN_RTO_US, this.srttUs + 4 * this.rttVarUs);
    return base * this.rtoBackoff;
  }
}

export function run(link: LinkSpec, flowSpecs: readonly FlowSpec[], durationUs: number, seed = 1): RunResult {
  const model = new Model(link, flowSpecs, seed);
  model.run(durationUs);
  return model;
}

export class Model implements RunResult {
  readonly flows: Flow[];
  readonly queueTraceUs: number[] = [];
  readonly #heap = new EventHeap();
  readonly #random: () => number;
  protected nowUs = 0;

  /** All flows over one link, or one link for each. */
  constructor(links: LinkSpec | readonly LinkSpec[], specs: readonly FlowSpec[], seed: number) {
    const shared = 'rateBitsPerS' in links ? new Link(links) : null;
    this.flows = specs.map((s, i) => new Flow(s, shared ?? new Link((links as readonly LinkSpec[])[i]!)));
    this.#random = rng(seed);
  }

  run(durationUs: number): void {
    for (const flow of this.flows) this.armSend(flow, flow.spec.startUs ?? 0);
    const trace = () => {
      this.queueTraceUs.push(Math.max(0, this.flows[0]!.link.busyUntilUs - this.nowUs));
      for (const f of this.flows) {
        f.cwndTrace.push(Math.floor(f.controller.cwndBytes / MSS));
        f.inFlightTrace.push(f.inFlight / MSS);
        f.deliveredTrace.push(f.deliveredBytes);
      }
      this.#heap.push(this.nowUs + TRACE_US, trace);
    };
    this.#heap.push(0, trace);
    const watch = () => {
      for (const f of this.flows) this.#checkRto(f);
      this.#heap.push(this.nowUs + 10_000, watch);
    };
    this.#heap.push(0, watch);
    for (;;) {
      const at = this.#heap.peek();
      if (at >= durationUs) break;
      this.nowUs = at;
      this.#heap.pop()();
    }
  }

  utilisation(fromUs: number, toUs: number): number {
    let bytes = 0;
    for (const f of this.flows) {
      bytes += (f.deliveredTrace[toUs / TRACE_US - 1] ?? 0) - (f.deliveredTrace[fromUs / TRACE_US] ?? 0);
    }
    let capacity = 0;
    for (let t = fromUs; t < toUs - TRACE_US; t += TRACE_US)
      capacity += (rateAt(this.flows[0]!.link.spec, t) / 8) * (TRACE_US / 1e6);
    return bytes / capacity;
  }

  queueUs(quantile: number, fromUs: number, toUs: number): number {
    const part = this.queueTraceUs.slice(fromUs / TRACE_US, toUs / TRACE_US).sort((a, b) => a - b);
    return part[Math.min(part.length - 1, Math.floor(part.length * quantile))]!;
  }

  protected armSend(flow: Flow, atUs: number): void {
    if (flow.sendTimer <= atUs && flow.sendTimer > this.nowUs) return;
    flow.sendTimer = atUs;
    this.#heap.push(atUs, () => {
      if (flow.sendTimer > this.nowUs) return;
      flow.sendTimer = Number.POSITIVE_INFINITY;
      this.send(flow);
    });
  }

  protected send(flow: Flow): void {
    const now = this.nowUs;
    const { idleUs, appBitsPerS } = flow.spec;
    if (idleUs !== undefined && now >= idleUs[0] && now < idleUs[1]) {
      this.armSend(flow, idleUs[1]);
      return;
    }
    if (appBitsPerS !== undefined) {
      flow.appBytes = Math.min(flow.appBytes + ((now - flow.appUs) * appBitsPerS) / 8e6, 65536);
      flow.appUs = now;
    }
    if (flow.inFlight === 0 && flow.lastSentUs > 0 && now - flow.lastSentUs > flow.rtoUs) {
      flow.controller.onIdleRestart(now, now - flow.lastSentUs, flow.rtoUs);
    }
    flow.wasLimited = false;
    while (true) {
      const c = flow.controller;
      if (flow.nextSendUs > now) {
        flow.wasLimited = true;
        this.armSend(flow, flow.nextSendUs);
        return;
      }
      if (flow.inFlight + MSS > c.cwndBytes) {
        flow.wasLimited = true;
        return;
      }
      if (appBitsPerS !== undefined && flow.appBytes < MSS) {
        flow.appLimitedUntil = flow.deliveredBytes + flow.inFlight;
        this.armSend(flow, now + Math.max(100, Math.ceil((MSS * 8e6) / appBitsPerS)));
        return;
      }
      const burst = burstPackets(flow);
      let n = 0;
      while (n < burst && flow.inFlight + MSS <= c.cwndBytes) {
        if (appBitsPerS !== undefined) {
          if (flow.appBytes < MSS) break;
          flow.appBytes -= MSS;
        }
        this.transmit(flow);
        n++;
      }
      this.spendCredit(flow, n);
    }
  }

  /** Pacing by credit of up to 2 ms: a late wake-up catches up. */
  protected spendCredit(flow: Flow, packets: number): void {
    const rate = flow.controller.pacingRateBytesPerS;
    if (!Number.isFinite(rate)) return;
    flow.nextSendUs = Math.max(flow.nextSendUs, this.nowUs - 2_000) + Math.round((packets * MSS * 1e6) / rate);
  }

  protected transmit(flow: Flow, tag = -1): void {
    const now = this.nowUs;
    if (flow.inFlight === 0) {
      flow.firstSentUs = now;
      flow.deliveredUs = now;
      flow.lastProgressUs = now;
    }
    const packet: Packet = {
      flow,
      tag,
      seq: flow.nextSeq++,
      sentUs: now,
      deliveredAtSend: flow.deliveredBytes,
      deliveredUsAtSend: flow.deliveredUs,
      firstSentUs: flow.firstSentUs,
      isAppLimited: flow.appLimitedUntil > flow.deliveredBytes,
      state: 'flight',
    };
    flow.sentPackets++;
    flow.lastSentUs = now;
    flow.inFlight += MSS;
    flow.outstanding.push(packet);
    flow.controller.onSent(now, MSS, flow.inFlight);

    const { link } = flow;
    const { darkUs: dark, queueUs, loss = 0, jitterUs = 0, delayUs } = link.spec;
    if (Math.max(0, link.busyUntilUs - now) > queueUs) return; // drop-tail
    if (dark !== undefined && now >= dark[0] && now < dark[1]) return;
    link.busyUntilUs = Math.max(link.busyUntilUs, now) + (MSS * 8e6) / rateAt(link.spec, now);
    if (this.#random() < loss) return;
    const jitter = jitterUs === 0 ? 0 : this.#random() * jitterUs;
    link.lastArrivalUs = Math.max(link.lastArrivalUs, Math.round(link.busyUntilUs + delayUs + jitter));
    this.#heap.push(link.lastArrivalUs, () => this.#receive(packet));
  }

  /** For subclasses: a packet is at the receiver, was marked lost. */
  protected onArrival(_packet: Packet): void {}
  protected onLost(_packet: Packet): void {}

  /** The receiver: an ACK at once for every second packet or out of order, else within 2 ms (super-packets end). */
  #receive(packet: Packet): void {
    const flow = packet.flow;
    this.onArrival(packet);
    const isGap = flow.outstanding.length > 0 && flow.outstanding[0]!.seq < packet.seq - flow.unacked.length;
    flow.unacked.push(packet);
    if (flow.unacked.length >= 2 || isGap) this.#sendAck(flow);
    else {
      const timer = ++flow.ackTimer;
      this.#heap.push(this.nowUs + 25_000, () => {
        if (timer === flow.ackTimer && flow.unacked.length > 0) this.#sendAck(flow);
      });
    }
  }

  #sendAck(flow: Flow): void {
    const packets = flow.unacked;
    flow.unacked = [];
    flow.ackTimer++;
    this.#heap.push(this.nowUs + flow.link.spec.delayUs, () => this.#onAck(flow, packets));
  }

  #onAck(flow: Flow, packets: readonly Packet[]): void {
    const now = this.nowUs;
    const s = flow.sample;
    s.nowUs = now;
    s.priorInFlightBytes = flow.inFlight;
    s.deliveredBytes = 0;
    s.lostBytes = 0;
    s.rttUs = -1;
    let newest: Packet | null = null;
    for (const p of packets) {
      if (p.state === 'delivered') continue;
      if (p.state === 'flight') flow.inFlight -= MSS;
      p.state = 'delivered';
      s.deliveredBytes += MSS;
      if (newest === null || p.seq > newest.seq) newest = p;
    }
    if (newest === null) return;
    flow.deliveredBytes += s.deliveredBytes;
    flow.deliveredUs = now;
    flow.lastProgressUs = now;
    flow.rtoBackoff = 1;
    const rtt = now - newest.sentUs;
    s.rttUs = rtt;
    flow.minRttUs = Math.min(flow.minRttUs, rtt);
    if (flow.srttUs === 0) {
      flow.srttUs = rtt;
      flow.rttVarUs = rtt / 2;
    } else {
      flow.rttVarUs += (Math.abs(rtt - flow.srttUs) - flow.rttVarUs) / 4;
      flow.srttUs += (rtt - flow.srttUs) / 8;
    }
    // RACK without reordering: what was sent REORDER_PACKETS before something delivered is lost.
    while (flow.outstanding.length > 0) {
      const p = flow.outstanding[0]!;
      if (p.state === 'flight') {
        if (p.seq + REORDER_PACKETS > newest.seq) break;
        p.state = 'lost';
        flow.inFlight -= MSS;
        flow.lostPackets++;
        s.lostBytes += MSS;
        this.onLost(p);
      }
      flow.outstanding.shift();
    }
    s.ackedBytes = s.deliveredBytes;
    s.inFlightBytes = flow.inFlight;
    s.srttUs = Math.round(flow.srttUs);
    s.minRttUs = flow.minRttUs;
    s.totalDeliveredBytes = flow.deliveredBytes;
    s.priorDeliveredBytes = newest.deliveredAtSend;
    s.isAppLimited = newest.isAppLimited;
    s.isCwndLimited = flow.wasLimited;
    const sendInterval = newest.sentUs - newest.firstSentUs;
    const ackInterval = now - newest.deliveredUsAtSend;
    const interval = Math.max(sendInterval, ackInterval);
    flow.firstSentUs = newest.sentUs;
    s.rateBytesPerS = interval >= flow.minRttUs ? ((flow.deliveredBytes - newest.deliveredAtSend) * 1e6) / interval : 0;

    const left = flow.kind !== 'none' && newest.seq >= flow.recoveryPoint;
    if (left && s.lostBytes === 0) {
      flow.kind = 'none';
      flow.controller.onRecoveryExit(now);
    }
    if (s.lostBytes > 0 && (flow.kind === 'none' || left)) {
      flow.kind = 'fast';
      flow.recoveryPoint = flow.nextSeq;
      flow.controller.onCongestionEvent(now, flow.inFlight, 'loss');
    }
    s.inRecovery = flow.kind !== 'none';
    flow.controller.onAck(s);
    this.send(flow);
  }

  #checkRto(flow: Flow): void {
    if (flow.inFlight === 0 || this.nowUs - Math.max(flow.lastProgressUs, 0) < flow.rtoUs) return;
    flow.rtos++;
    for (const p of flow.outstanding) {
      if (p.state !== 'flight') continue;
      p.state = 'lost';
      flow.lostPackets++;
      this.onLost(p);
    }
    flow.outstanding = [];
    flow.inFlight = 0;
    if (flow.rtoBackoff === 1) flow.controller.onRto(this.nowUs, 0);
    flow.rtoBackoff = Math.min(flow.rtoBackoff * 2, 8);
    flow.kind = 'rto';
    flow.recoveryPoint = flow.nextSeq;
    flow.lastProgressUs = this.nowUs;
    flow.nextSendUs = 0;
    this.send(flow);
  }
}

/** One super-packet: 1 ms at the pacing rate, at least 2 segments. */
export function burstPackets(flow: Flow): number {
  const rate = flow.controller.pacingRateBytesPerS;
  return Number.isFinite(rate) ? Math.max(2, Math.min(46, Math.floor((rate * 0.001) / MSS))) : 10;
}

function rateAt(link: LinkSpec, us: number): number {
  let rate = link.rateBitsPerS;
  for (const c of link.changes ?? []) if (c.atUs <= us) rate = c.rateBitsPerS;
  return rate;
}

/** Binary heap of events; equal times run in the order they were pushed. */
class EventHeap {
  readonly #items: { at: number; n: number; run: () => void }[] = [];
  #count = 0;

  push(at: number, run: () => void): void {
    const items = this.#items;
    let i = items.push({ at, n: this.#count++, run }) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(items[i]!, items[parent]!)) break;
      [items[i], items[parent]] = [items[parent]!, items[i]!];
      i = parent;
    }
  }

  peek(): number {
    return this.#items[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  pop(): () => void {
    const items = this.#items;
    const top = items[0]!;
    const last = items.pop()!;
    if (items.length > 0) {
      items[0] = last;
      let i = 0;
      for (;;) {
        let least = i;
        for (const child of [2 * i + 1, 2 * i + 2]) {
          if (child < items.length && before(items[child]!, items[least]!)) least = child;
        }
        if (least === i) break;
        [items[i], items[least]] = [items[least]!, items[i]!];
        i = least;
      }
    }
    return top.run;
  }
}

function before(a: { at: number; n: number }, b: { at: number; n: number }): boolean {
  return a.at < b.at || (a.at === b.at && a.n < b.n);
}
