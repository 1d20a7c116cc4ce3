/**
 * HyStart++ (RFC 9406): leaves slow start when the round-trip time rises, through a conservative phase (CSS) that
 * goes back to slow start if the rise was only jitter. We pace, so growth per ACK has no limit L (§4.3).
 */
import type { Micros } from '../base/time.js';
import type { AckSample } from './controller.js';

// RFC 9406 §4.3.
const MIN_RTT_THRESH_US = 4_000;
const MAX_RTT_THRESH_US = 16_000;
const MIN_RTT_DIVISOR = 8;
const N_RTT_SAMPLE = 8;
const CSS_GROWTH_DIVISOR = 4;
const CSS_ROUNDS = 5;

export class HyStart {
  #roundEndDelivered = -1;
  #lastRoundMinRttUs: Micros = Number.POSITIVE_INFINITY;
  #currentRoundMinRttUs: Micros = Number.POSITIVE_INFINITY;
  #rttSampleCount = 0;
  #cssBaselineMinRttUs: Micros = Number.POSITIVE_INFINITY;
  #cssRoundsLeft = 0;

  /** In conservative slow start: growth is a quarter of slow start's. */
  get inCss(): boolean {
    return this.#cssRoundsLeft > 0;
  }

  /** Slow start begins anew, after idleness before it had ended. */
  reset(): void {
    this.#roundEndDelivered = -1;
    this.#lastRoundMinRttUs = Number.POSITIVE_INFINITY;
    this.#currentRoundMinRttUs = Number.POSITIVE_INFINITY;
    this.#rttSampleCount = 0;
    this.#cssRoundsLeft = 0;
  }

  /** Bytes that slow start grows by for `ackedBytes` newly delivered ones; the ACK must have been passed to `onAck`. */
  growthBytes(ackedBytes: number): number {
    return this.inCss ? ackedBytes / CSS_GROWTH_DIVISOR : ackedBytes;
  }

  /** Takes one ACK of slow start; true: slow start is over (ssthresh = cwnd). */
  onAck(sample: AckSample): boolean {
    const isRoundStart = sample.priorDeliveredBytes >= this.#roundEndDelivered;
    if (isRoundStart) {
      this.#roundEndDelivered = sample.totalDeliveredBytes;
      this.#lastRoundMinRttUs = this.#currentRoundMinRttUs;
      this.#currentRoundMinRttUs = Number.POSITIVE_INFINITY;
      this.#rttSampleCount = 0;
      if (this.inCss && --this.#cssRoundsLeft === 0) return true;
    }
    if (sample.rttUs > 0) {
      this.#currentRoundMinRttUs = Math.min(this.#currentRoundMinRttUs, sample.rttUs);
      this.#rttSampleCount++;
    }
    if (this.#rttSampleCount < N_RTT_SAMPLE) return false;
    if (this.inCss) {
      // The rise was spurious: slow start goes on (§4.2).
      if (this.#currentRoundMinRttUs < this.#cssBaselineMinRttUs) this.#cssRoundsLeft = 0;
      return false;
    }
    if (this.#lastRoundMinRttUs === Number.POSITIVE_INFINITY) return false;
    const threshUs = Math.max(
      MIN_RTT_THRESH_US,
      Math.min(this.#lastRoundMinRttUs / MIN_RTT_DIVISOR, MAX_RTT_THRESH_US),
    );
    if (this.#currentRoundMinRttUs >= this.#lastRoundMinRttUs + threshUs) {
      this.#cssBaselineMinRttUs = this.#currentRoundMinRttUs;
      this.#cssRoundsLeft = CSS_ROUNDS;
    }
    return false;
  }
}
