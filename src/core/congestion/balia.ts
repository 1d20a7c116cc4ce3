/**
 * BALIA, "balanced linked adaptation" (draft-walid-mptcp-congestion-control-04): friendly to single-path TCP as OLIA is, and
 * quick to take up a path that has become better, since increase and decrease both know how far a path is behind the best.
 */
import type { CongestionConfig } from './controller.js';
import { CoupledController } from './coupled.js';

/** The decrease takes at most 1.5 times half the window. */
const MAX_DECREASE = 1.5;

export class Balia extends CoupledController {
  readonly name = 'balia';

  static create(config: CongestionConfig): Balia {
    return new Balia(config);
  }

  /** x_r / (rtt_r (SUM x)^2) * (1 + a_r) / 2 * (4 + a_r) / 5, with x = cwnd / rtt. */
  protected increasePerByte(): number {
    const { sumRate } = this.coupling;
    if (sumRate <= 0 || this.rttUs <= 0) return 1 / this.cwnd;
    const a = this.#alpha();
    const rate = this.cwnd / this.rttUs;
    return ((rate / (this.rttUs * sumRate * sumRate)) * (1 + a) * (4 + a)) / 10;
  }

  /** What is left after a decrease by cwnd / 2 * min(a_r, 1.5); a mark counts as a loss (RFC 3168 6.1.2). */
  protected override decreaseFactor(): number {
    this.coupling.survey(this.lastAckUs);
    return 1 - Math.min(this.#alpha(), MAX_DECREASE) / 2;
  }

  /** a_r = MAX(x_p) / x_r, at least 1; 1 for a path alone or not measured yet. */
  #alpha(): number {
    const rate = this.rttUs > 0 ? this.cwnd / this.rttUs : 0;
    return rate > 0 ? Math.max(1, this.coupling.maxRate / rate) : 1;
  }
}
