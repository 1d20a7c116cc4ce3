/**
 * What LIA, OLIA and BALIA share: NewReno but for the increase in congestion avoidance (RFC 6356 3: slow start, fast
 * retransmit, fast recovery and timeouts are TCP's own), and a place in the connection's coupling.
 */
import type { Micros } from '../base/time.js';
import type { AckSample, CongestionConfig } from './controller.js';
import { type CoupledFlow, Coupling } from './coupling.js';
import { LossBasedController } from './loss-based.js';
import { BETA_ECN, BETA_LOSS } from './reno.js';

export abstract class CoupledController extends LossBasedController implements CoupledFlow {
  protected readonly coupling: Coupling;
  rttUs: Micros = 0;
  lastAckUs: Micros = 0;
  #flightBytes = 0;
  #isCwndLimited = true;
  // Bytes acknowledged between the last two losses, and since the last one (OLIA's l1 and l2).
  #beforeLossBytes = 0;
  #sinceLossBytes = 0;
  #undoBeforeLossBytes = 0;

  /** Without a coupling given it is the only flow: then each of the three behaves as NewReno does. */
  constructor(config: CongestionConfig) {
    super(config);
    this.coupling = config.coupling ?? new Coupling();
    this.coupling.enter(this);
  }

  get windowBytes(): number {
    return this.#isCwndLimited ? this.cwnd : Math.min(this.cwnd, this.#flightBytes);
  }

  get lossIntervalBytes(): number {
    return Math.max(this.#beforeLossBytes, this.#sinceLossBytes);
  }

  override onAck(sample: AckSample): void {
    this.rttUs = sample.srttUs;
    this.#isCwndLimited = sample.isCwndLimited;
    this.#flightBytes = sample.priorInFlightBytes;
    if (sample.deliveredBytes > 0) this.lastAckUs = sample.nowUs;
    this.#sinceLossBytes += sample.deliveredBytes;
    super.onAck(sample);
  }

  protected decreaseFactor(kind: 'loss' | 'ecn'): number {
    return kind === 'ecn' ? BETA_ECN : BETA_LOSS;
  }

  protected avoid(sample: AckSample): void {
    if (!sample.isCwndLimited) return;
    this.coupling.survey(sample.nowUs);
    const grownBytes = sample.deliveredBytes * this.mssBytes * this.increasePerByte(sample.nowUs);
    this.cwnd = Math.max(this.cwnd + grownBytes, this.mssBytes);
    // A decrease (OLIA moves its window to a better path) is no reason for another slow start.
    if (grownBytes < 0) this.ssthresh = Math.min(this.ssthresh, this.cwnd);
  }

  /** Growth for one delivered byte, in segments per byte; the coupling has just been surveyed. NewReno: 1 / cwnd. */
  protected abstract increasePerByte(nowUs: Micros): number;

  protected remember(_nowUs: Micros): void {
    this.#undoBeforeLossBytes = this.#beforeLossBytes;
    this.#beforeLossBytes = this.#sinceLossBytes;
    this.#sinceLossBytes = 0;
  }

  protected restore(_nowUs: Micros): void {
    this.#sinceLossBytes += this.#beforeLossBytes;
    this.#beforeLossBytes = this.#undoBeforeLossBytes;
  }
}
