/** Round-trip time and retransmission timeout of one subflow (RFC 6298; RFC 7323 appendix G for many samples a RTT). */
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';

/** Window of the minimum filter: long enough to outlive a queue, short enough to follow a route change. */
const MIN_RTT_WINDOW_US = 300_000_000;

export class RttEstimator {
  /** 0 until the first sample. */
  srttUs: Micros = 0;
  rttVarUs: Micros = 0;
  /** Smallest sample of the last five minutes; NEVER until the first. */
  minRttUs: Micros = NEVER;
  latestUs: Micros = 0;
  /** Without back-off. */
  rtoUs: Micros;
  samples = 0;
  #minAtUs: Micros = 0;
  /** See `restart`; NEVER: no restart waits for its first sample. */
  #restartUs: Micros = NEVER;

  constructor(
    initialRtoUs: Micros,
    private readonly minRtoUs: Micros,
    private readonly maxRtoUs: Micros,
  ) {
    this.rtoUs = initialRtoUs;
  }

  get hasSample(): boolean {
    return this.samples > 0;
  }

  /**
   * One measurement. `expectedSamples` is how many a round trip yields (RFC 7323 appendix G divides the weights by it,
   * so that a large window does not forget its history within one RTT).
   */
  onSample(nowUs: Micros, rttUs: Micros, expectedSamples: number): void {
    const r = Math.max(1, rttUs);
    const isRestarting = this.#restartUs !== NEVER;
    if (isRestarting && nowUs - r < this.#restartUs) return;
    this.#restartUs = NEVER;
    this.latestUs = r;
    this.samples++;
    if (r <= this.minRttUs || nowUs - this.#minAtUs > MIN_RTT_WINDOW_US) {
      this.minRttUs = r;
      this.#minAtUs = nowUs;
    }
    if (this.samples === 1 || isRestarting) {
      this.srttUs = r; // RFC 6298 2.2
      this.rttVarUs = r / 2;
    } else {
      const n = Math.max(1, expectedSamples);
      // RFC 6298 2.3: RTTVAR first, with the old SRTT.
      // It grows at full speed: a queue that fills within one round trip must not overtake the RTO.
      const change = Math.abs(this.srttUs - r) - this.rttVarUs;
      this.rttVarUs += change / (change > 0 ? 4 : 4 * n);
      this.srttUs += (r - this.srttUs) / (8 * n);
    }
    this.#computeRto();
  }

  /** RFC 6298 5.7: the SYN was retransmitted and nothing was measured; data starts with 3 s. */
  onSynRetransmitted(): void {
    if (!this.hasSample) this.rtoUs = Math.min(Math.max(this.rtoUs, 3_000_000), this.maxRtoUs);
  }

  /**
   * RFC 6298 5.7: after timeouts SRTT and RTTVAR are likely bogus, and the next sample, of what is sent from now on, begins
   * as the first one did. Until then the path counts for what it was at its best.
   */
  restart(nowUs: Micros): void {
    if (!this.hasSample) return;
    this.#restartUs = nowUs;
    this.srttUs = this.minRttUs;
    this.rttVarUs = this.minRttUs / 2;
    this.#computeRto();
  }

  /** RTO after `count` expiries (RFC 6298 5.5). */
  backedOffUs(count: number): Micros {
    return Math.min(this.rtoUs * 2 ** Math.min(count, 30), this.maxRtoUs);
  }

  #computeRto(): void {
    // The floor is applied to the variance term as well as Linux does: SRTT + max(floor, 4 RTTVAR). A path whose RTT is
    // steady would otherwise get an RTO right at a delayed ACK.
    const rto = this.srttUs + Math.max(this.minRtoUs, 4 * this.rttVarUs);
    this.rtoUs = Math.min(Math.round(rto), this.maxRtoUs);
  }
}
