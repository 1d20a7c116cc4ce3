/**
 * What NewReno, CUBIC and the coupled controllers share: slow start with HyStart++, the window in bytes, reductions and their undo, restart after
 * idleness, and a pacing rate derived from the window. A subclass supplies its decrease factor and its avoidance rule.
 */
import type { Micros } from '../base/time.js';
import { US_PER_S } from '../base/time.js';
import type { AckSample, CongestionConfig, CongestionController } from './controller.js';
import { HyStart } from './hystart.js';

// Pacing relative to cwnd/srtt, as Linux does: room to grow into, then just enough to refill after a stretch ACK.
const SLOW_START_PACING = 2;
const AVOIDANCE_PACING = 1.2;

/** RFC 5681 (4): ssthresh is never below two segments. */
const MIN_SSTHRESH_SEGMENTS = 2;

export abstract class LossBasedController implements CongestionController {
  abstract readonly name: string;

  protected mssBytes: number;
  /** May be fractional between ACKs; `cwndBytes` is the whole part. */
  protected cwnd: number;
  protected ssthresh: number;

  #initialCwndBytes: number;
  readonly #hystart = new HyStart();
  /** The threshold that it began with. */
  readonly #firstSsthresh: number;
  #srttUs: Micros = 0;
  /** The last ACK found the window in use; decides what a reduction is taken from. */
  #wasCwndLimited = true;
  /** After an RTO the window grows again while still in recovery; in fast recovery it does not. */
  #inRtoRecovery = false;
  /** Window and threshold before the last reduction, or null when there is nothing to undo. */
  #prior: { cwnd: number; ssthresh: number } | null = null;

  constructor(config: CongestionConfig) {
    this.mssBytes = config.mssBytes;
    this.#initialCwndBytes = config.initialCwndSegments * config.mssBytes;
    this.cwnd = this.#initialCwndBytes;
    this.#firstSsthresh = config.initialSsthreshBytes ?? Number.POSITIVE_INFINITY;
    this.ssthresh = this.#firstSsthresh;
  }

  get cwndBytes(): number {
    return Math.floor(this.cwnd);
  }

  get ssthreshBytes(): number {
    return this.ssthresh;
  }

  get inSlowStart(): boolean {
    return this.cwnd < this.ssthresh;
  }

  get pacingRateBytesPerS(): number {
    if (this.#srttUs <= 0) return Number.POSITIVE_INFINITY;
    const gain = this.cwnd < this.ssthresh / 2 ? SLOW_START_PACING : AVOIDANCE_PACING;
    return (gain * this.cwnd * US_PER_S) / this.#srttUs;
  }

  onSent(_nowUs: Micros, _bytes: number, _inFlightBytes: number): void {}

  onAck(sample: AckSample): void {
    if (sample.srttUs > 0) this.#srttUs = sample.srttUs;
    this.#wasCwndLimited = sample.isCwndLimited;
    if (!sample.inRecovery) this.#inRtoRecovery = false;
    // Newly *delivered* bytes: the cumulative jump at the end of a recovery was delivered (SACKed) long before.
    if (sample.deliveredBytes <= 0 || (sample.inRecovery && !this.#inRtoRecovery)) return;
    if (this.inSlowStart) this.#slowStart(sample);
    else this.avoid(sample);
  }

  onCongestionEvent(nowUs: Micros, inFlightBytes: number, kind: 'loss' | 'ecn'): void {
    this.#inRtoRecovery = false;
    this.#reduce(nowUs, inFlightBytes, this.decreaseFactor(kind));
    this.cwnd = this.ssthresh;
  }

  onRecoveryExit(_nowUs: Micros): void {
    this.#inRtoRecovery = false;
  }

  onRto(nowUs: Micros, inFlightBytes: number): void {
    this.#reduce(nowUs, inFlightBytes, this.decreaseFactor('loss'));
    this.cwnd = this.mssBytes; // RFC 5681 §3.1: the loss window is one segment
    this.#inRtoRecovery = true;
  }

  onUndo(nowUs: Micros): void {
    if (this.#prior === null) return;
    this.cwnd = Math.max(this.cwnd, this.#prior.cwnd);
    this.ssthresh = this.#prior.ssthresh;
    this.#prior = null;
    this.#inRtoRecovery = false;
    this.restore(nowUs);
  }

  onIdleRestart(_nowUs: Micros, idleUs: Micros, rtoUs: Micros): void {
    if (idleUs <= rtoUs) return;
    // RFC 5681 §4.1: no more than the restart window; what the path carried before stays known as ssthresh (RFC 2861).
    const restart = this.#initialCwndBytes;
    if (this.cwnd <= restart) return;
    this.ssthresh = Math.max(this.ssthresh, (this.cwnd * 3) / 4);
    this.cwnd = restart;
    this.#hystart.reset();
  }

  onPathRestart(_nowUs: Micros): void {
    this.cwnd = this.#initialCwndBytes;
    this.ssthresh = this.#firstSsthresh;
    this.#prior = null;
    // What the outage swallowed is repaired in slow start, as after a timeout.
    this.#inRtoRecovery = true;
    this.#hystart.reset();
  }

  onMssChange(mssBytes: number): void {
    // RFC 8201 §5.2 leaves the window in bytes alone; one segment must still fit.
    this.mssBytes = mssBytes;
    this.cwnd = Math.max(this.cwnd, mssBytes);
  }

  onInitialWindow(windowBytes: number): void {
    this.#initialCwndBytes = windowBytes;
    this.cwnd = windowBytes;
  }

  /** What the window is multiplied by for one congestion event. */
  protected abstract decreaseFactor(kind: 'loss' | 'ecn'): number;
  /** Congestion avoidance for one ACK with deliveredBytes > 0. */
  protected abstract avoid(sample: AckSample): void;
  /** Called before a reduction, with the window still as it was. */
  protected abstract remember(nowUs: Micros): void;
  /** The last reduction is being undone; window and threshold are already restored. */
  protected abstract restore(nowUs: Micros): void;

  #slowStart(sample: AckSample): void {
    // RFC 9406 4.3: HyStart++ is for the first slow start; later ones know from ssthresh where to end.
    const isFirst = this.ssthresh === this.#firstSsthresh;
    const isOver = isFirst && this.#hystart.onAck(sample);
    if (isOver) {
      this.ssthresh = this.cwnd;
      return;
    }
    if (!sample.isCwndLimited) return; // RFC 7661: an unused window is not validated
    const { deliveredBytes } = sample;
    const grown = this.cwnd + (isFirst ? this.#hystart.growthBytes(deliveredBytes) : deliveredBytes);
    this.cwnd = Math.min(grown, this.ssthresh);
  }

  #reduce(nowUs: Micros, inFlightBytes: number, factor: number): void {
    this.remember(nowUs);
    this.#prior = { cwnd: this.cwnd, ssthresh: this.ssthresh };
    // RFC 5681 (4), RFC 9438 §4.6: by flight size; the window is the same thing while it is in use, and does not shrink
    // with the bytes that this very event marked lost.
    const basis = this.#wasCwndLimited ? this.cwnd : Math.min(this.cwnd, inFlightBytes);
    this.ssthresh = Math.max(Math.floor(basis * factor), MIN_SSTHRESH_SEGMENTS * this.mssBytes);
  }
}
