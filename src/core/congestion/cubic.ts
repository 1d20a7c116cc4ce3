/**
 * CUBIC (RFC 9438). Windows are bytes here and segments in the RFC, so C carries a factor of the MSS. Read §4.1-4.9.
 *
 *   W_cubic(t) = C (t - K)^3 + W_max,   K = cbrt((W_max - cwnd_epoch) / C)
 */
import type { Micros } from '../base/time.js';
import { US_PER_S } from '../base/time.js';
import type { AckSample, CongestionConfig } from './controller.js';
import { LossBasedController } from './loss-based.js';

const C_SEGMENTS_PER_S3 = 0.4; // §5.1
const BETA_LOSS = 0.7; // §4.6
const BETA_ECN = 0.85; // RFC 8511 §3.1
/** §4.3: what makes AIMD with beta 0.7 as fast as Reno on average. */
const ALPHA = (3 * (1 - BETA_LOSS)) / (1 + BETA_LOSS);
/** §4.2: the window grows by at most half per RTT. */
const MAX_TARGET = 1.5;

export class Cubic extends LossBasedController {
  readonly name = 'cubic';

  /** Window before the last reduction, lowered by fast convergence (§4.7); 0 before any. */
  #wMaxBytes = 0;
  /** Window before the last reduction as it was: where the Reno-friendly region becomes plain Reno (§4.3). */
  #cwndPriorBytes = 0;
  /** When the current avoidance stage began, shifted by the time that it was not using its window; -1: not begun. */
  #epochStartUs: Micros = -1;
  #kS = 0;
  #originBytes = 0;
  #wEstBytes = 0;
  #lastAckUs: Micros = 0;
  /** All of the above but the last, as it was before the last reduction (§4.9); filled in again each time. */
  readonly #before = { wMaxBytes: 0, cwndPriorBytes: 0, epochStartUs: -1, kS: 0, originBytes: 0, wEstBytes: 0 };

  static create(config: CongestionConfig): Cubic {
    return new Cubic(config);
  }

  protected decreaseFactor(kind: 'loss' | 'ecn'): number {
    return kind === 'ecn' ? BETA_ECN : BETA_LOSS;
  }

  protected avoid(sample: AckSample): void {
    const { nowUs } = sample;
    if (this.#epochStartUs < 0) this.#beginEpoch(nowUs);
    else if (!sample.isCwndLimited) this.#epochStartUs += nowUs - this.#lastAckUs; // §5.8
    this.#lastAckUs = nowUs;
    if (!sample.isCwndLimited) return;

    const tS = (nowUs - this.#epochStartUs) / US_PER_S;
    const share = sample.deliveredBytes / this.cwnd;

    // §4.3: what Reno would have by now.
    this.#wEstBytes += (this.#wEstBytes >= this.#cwndPriorBytes ? 1 : ALPHA) * share * this.mssBytes;
    if (this.#wCubicBytes(tS) < this.#wEstBytes) {
      this.cwnd = Math.max(this.cwnd, this.#wEstBytes);
      return;
    }
    // §4.4, §4.5: move so as to be at the target one RTT from now.
    const target = this.#wCubicBytes(tS + sample.srttUs / US_PER_S);
    const clamped = Math.min(Math.max(target, this.cwnd), MAX_TARGET * this.cwnd);
    this.cwnd += (clamped - this.cwnd) * Math.min(share, 1);
  }

  protected remember(): void {
    const before = this.#before;
    before.wMaxBytes = this.#wMaxBytes;
    before.cwndPriorBytes = this.#cwndPriorBytes;
    before.epochStartUs = this.#epochStartUs;
    before.kS = this.#kS;
    before.originBytes = this.#originBytes;
    before.wEstBytes = this.#wEstBytes;
    // §4.7: a window below the last maximum means that others are growing: give way sooner.
    this.#wMaxBytes = this.cwnd < this.#wMaxBytes ? (this.cwnd * (1 + BETA_LOSS)) / 2 : this.cwnd;
    this.#cwndPriorBytes = this.cwnd;
    this.#epochStartUs = -1;
  }

  override onRto(nowUs: Micros, inFlightBytes: number): void {
    super.onRto(nowUs, inFlightBytes);
    // §4.8: the first stage after a timeout has K = 0 and begins from its own window as W_max.
    this.#wMaxBytes = 0;
  }

  override onPathRestart(nowUs: Micros): void {
    super.onPathRestart(nowUs);
    this.#wMaxBytes = this.#cwndPriorBytes = 0;
    this.#epochStartUs = -1;
  }

  /** §4.9: as if the reduction had not been. */
  protected restore(): void {
    const before = this.#before;
    this.#wMaxBytes = before.wMaxBytes;
    this.#cwndPriorBytes = before.cwndPriorBytes;
    this.#epochStartUs = before.epochStartUs;
    this.#kS = before.kS;
    this.#originBytes = before.originBytes;
    this.#wEstBytes = before.wEstBytes;
  }

  /** §4.2: cwnd_epoch is the window now; after an RTO, that with which slow start ended. */
  #beginEpoch(nowUs: Micros): void {
    this.#epochStartUs = nowUs;
    this.#wEstBytes = this.cwnd;
    if (this.cwnd < this.#wMaxBytes) {
      this.#kS = Math.cbrt((this.#wMaxBytes - this.cwnd) / this.mssBytes / C_SEGMENTS_PER_S3);
      this.#originBytes = this.#wMaxBytes;
    } else {
      this.#kS = 0;
      this.#originBytes = this.cwnd;
    }
  }

  #wCubicBytes(tS: number): number {
    const d = tS - this.#kS;
    return C_SEGMENTS_PER_S3 * this.mssBytes * d * d * d + this.#originBytes;
  }
}
