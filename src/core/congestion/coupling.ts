/**
 * What the coupled controllers of one connection know of each other (RFC 6356 3; OLIA and BALIA need the same): a list of
 * the connection's flows, as plain numbers, and the sums over those that are at work. One walk per ACK, no allocation.
 */
import type { Micros } from '../base/time.js';

/** One subflow as its siblings see it; the controller itself implements it, so that the numbers are never old. */
export interface CoupledFlow {
  /**
   * Window that counts, bytes: cwnd, which in fast recovery is ssthresh here and never inflated; while the application
   * leaves some of it unused, what was in flight (RFC 6356 3, both).
   */
  readonly windowBytes: number;
  /** Smoothed RTT, 0 before the first sample. */
  readonly rttUs: Micros;
  /** When something of it was last acknowledged. */
  readonly lastAckUs: Micros;
  /** OLIA's l: bytes acknowledged between its last two losses or since the last one, whichever is more. */
  readonly lossIntervalBytes: number;
}

/**
 * A flow without any acknowledgment for this long and for two RTTs has no part in the sums: it idles (a backup, nothing
 * scheduled there), is stalled, or is closing. Its window is then no sign of what it takes from the network.
 */
const QUIET_US: Micros = 500_000;
const QUIET_RTTS = 2;

export class Coupling {
  /** Bounded by the subflows of a connection (MAX_SUBFLOWS). */
  readonly flows: CoupledFlow[] = [];

  // Of the last survey; rates are bytes per microsecond.
  atWork = 0;
  /** cwnd_total. */
  totalBytes = 0;
  /** SUM(cwnd_i / rtt_i) and MAX(cwnd_i / rtt_i). */
  sumRate = 0;
  maxRate = 0;
  /** MAX(cwnd_i / rtt_i^2). */
  maxWeight = 0;

  enter(flow: CoupledFlow): void {
    this.flows.push(flow);
  }

  /** The subflow is over. Uncoupled controllers were never in: nothing happens. */
  leave(controller: object): void {
    const at = this.flows.indexOf(controller as CoupledFlow);
    if (at >= 0) this.flows.splice(at, 1);
  }

  isAtWork(flow: CoupledFlow, nowUs: Micros): boolean {
    return flow.rttUs > 0 && nowUs - flow.lastAckUs <= Math.max(QUIET_US, QUIET_RTTS * flow.rttUs);
  }

  survey(nowUs: Micros): void {
    this.atWork = 0;
    this.totalBytes = 0;
    this.sumRate = 0;
    this.maxRate = 0;
    this.maxWeight = 0;
    for (const flow of this.flows) {
      if (!this.isAtWork(flow, nowUs)) continue;
      const { windowBytes, rttUs } = flow;
      const rate = windowBytes / rttUs;
      this.atWork++;
      this.totalBytes += windowBytes;
      this.sumRate += rate;
      this.maxRate = Math.max(this.maxRate, rate);
      this.maxWeight = Math.max(this.maxWeight, rate / rttUs);
    }
  }
}
