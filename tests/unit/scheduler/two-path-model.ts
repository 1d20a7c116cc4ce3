/**
 * A Multipath TCP connection over two modelled links: a scheduler places data, BBR runs on each, lost data is sent again
 * where it was lost, the receiver delivers in order and advertises a window. The source is the tunnel's: always more to
 * send, but only a few milliseconds' worth of it is ever pending.
 */
import { Bbr } from '../../../src/core/congestion/bbr.js';
import type { PathSnapshot, Scheduler } from '../../../src/core/scheduler/scheduler.js';
import { burstPackets, type Flow, type LinkSpec, Model, MSS, type Packet } from '../congestion/link-model.js';

const PENDING_US = 2_000;
const MIN_PENDING_BYTES = 16_384;

export interface TwoPathResult {
  /** In-order goodput over [from, to), bit/s. */
  goodputBitsPerS(fromUs: number, toUs: number): number;
  /** Quantile of the time from sending a byte first to delivering it in order, us, over [from, to). */
  delayUs(quantile: number, fromUs: number, toUs: number): number;
  /** Bytes sent per path. */
  readonly sentBytes: readonly number[];
}

export function runTwoPaths(
  links: readonly LinkSpec[],
  scheduler: Scheduler,
  durationUs: number,
  windowBytes = 8_000_000,
  seed = 1,
): TwoPathResult {
  const model = new Connection(links, scheduler, windowBytes, seed);
  model.run(durationUs);
  return model;
}

class Connection extends Model implements TwoPathResult {
  readonly #scheduler: Scheduler;
  readonly #windowBytes: number;
  readonly #rates: number[];
  #nextDsn = 0;
  #rcvNxt = 0;
  readonly #outOfOrder = new Set<number>();
  readonly #firstSentUs: number[] = [];
  readonly #deliveredUs: number[] = [];
  readonly #lost = new Map<Flow, number[]>();

  constructor(links: readonly LinkSpec[], scheduler: Scheduler, windowBytes: number, seed: number) {
    super(
      links,
      links.map(() => ({ factory: Bbr.create })),
      seed,
    );
    this.#scheduler = scheduler;
    this.#windowBytes = windowBytes;
    this.#rates = links.map(() => 0);
    for (const f of this.flows) this.#lost.set(f, []);
  }

  get sentBytes(): readonly number[] {
    return this.flows.map((f) => f.sentPackets * MSS);
  }

  goodputBitsPerS(fromUs: number, toUs: number): number {
    const packets = this.#deliveredUs.filter((at) => at >= fromUs && at < toUs).length;
    return (packets * MSS * 8e6) / (toUs - fromUs);
  }

  delayUs(quantile: number, fromUs: number, toUs: number): number {
    const delays: number[] = [];
    for (let dsn = 0; dsn < this.#deliveredUs.length; dsn++) {
      const at = this.#deliveredUs[dsn]!;
      if (at >= fromUs && at < toUs) delays.push(at - this.#firstSentUs[dsn]!);
    }
    return delays.sort((a, b) => a - b)[Math.floor(delays.length * quantile)]!;
  }

  /** Whatever woke one flow, the connection looks at all of them. */
  protected override send(_flow: Flow): void {
    this.#retransmit();
    for (;;) {
      const paths = this.flows.map((f, i) => this.#snapshot(f, i));
      const windowBytes = this.#windowBytes - (this.#nextDsn - this.#rcvNxt) * MSS;
      if (windowBytes < MSS) break;
      const rate = paths.reduce((sum, p) => sum + p.rateBytesPerS, 0);
      const pendingBytes = Math.max(MIN_PENDING_BYTES, (rate * PENDING_US) / 1e6);
      const at = this.#scheduler.select({ nowUs: this.nowUs, paths, pendingBytes, windowBytes, windowFullUs: -1 });
      if (at < 0) break;
      const flow = this.flows[at]!;
      this.#burst(flow, () => {
        this.#firstSentUs[this.#nextDsn] = this.nowUs;
        return this.#nextDsn++;
      });
    }
    for (const f of this.flows) {
      f.wasLimited = f.nextSendUs > this.nowUs || !hasRoom(f);
      // A path that could send and is not asked to is limited by its application.
      if (!f.wasLimited) f.appLimitedUntil = f.deliveredBytes + Math.max(f.inFlight, 1);
      if (f.nextSendUs > this.nowUs) this.armSend(f, f.nextSendUs);
    }
  }

  protected override onArrival(packet: Packet): void {
    if (packet.tag < this.#rcvNxt || this.#outOfOrder.has(packet.tag)) return;
    this.#outOfOrder.add(packet.tag);
    while (this.#outOfOrder.delete(this.#rcvNxt)) this.#deliveredUs[this.#rcvNxt++] = this.nowUs;
  }

  protected override onLost(packet: Packet): void {
    this.#lost.get(packet.flow)!.push(packet.tag);
  }

  #retransmit(): void {
    for (const [flow, lost] of this.#lost) {
      while (lost.length > 0 && flow.nextSendUs <= this.nowUs && hasRoom(flow)) {
        this.#burst(flow, () => lost.shift() ?? -1);
      }
    }
  }

  /** Sends up to one super-packet; `next` gives data sequence numbers, -1 for none. */
  #burst(flow: Flow, next: () => number): void {
    const burst = burstPackets(flow);
    let n = 0;
    while (n < burst && hasRoom(flow)) {
      const dsn = next();
      if (dsn < 0) break;
      this.transmit(flow, dsn);
      n++;
    }
    this.spendCredit(flow, n);
  }

  #snapshot(flow: Flow, index: number): PathSnapshot {
    const s = flow.sample;
    // As a connection keeps it: samples limited by the application count only upwards.
    if (s.rateBytesPerS > this.#rates[index]! || !s.isAppLimited) this.#rates[index] = s.rateBytesPerS;
    const isReady = flow.nextSendUs <= this.nowUs;
    return {
      index,
      id: index,
      isBackup: false,
      isUsable: true,
      isStalled: false,
      isDoubted: false,
      isHeldByLimit: false,
      srttUs: flow.srttUs || 2 * flow.link.spec.delayUs, // the handshake's
      rttVarUs: flow.rttVarUs,
      minRttUs: Number.isFinite(flow.minRttUs) ? flow.minRttUs : 2 * flow.link.spec.delayUs,
      cwndBytes: flow.controller.cwndBytes,
      inFlightBytes: flow.inFlight,
      availableBytes: isReady && hasRoom(flow) ? Math.max(0, flow.controller.cwndBytes - flow.inFlight) : 0,
      readyAtUs: Math.max(this.nowUs, flow.nextSendUs),
      rateBytesPerS: this.#rates[index]!,
      mssBytes: MSS,
    };
  }
}

function hasRoom(flow: Flow): boolean {
  return flow.inFlight + MSS <= flow.controller.cwndBytes;
}
