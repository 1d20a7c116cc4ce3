/**
 * LIA, "linked increases" (RFC 6356 3): the increase is coupled so that the connection takes as much as one TCP would on
 * its best path, and on no path more than a TCP there. Everything else is NewReno.
 */
import type { CongestionConfig } from './controller.js';
import { CoupledController } from './coupled.js';
import type { Coupling } from './coupling.js';

export class Lia extends CoupledController {
  readonly name = 'lia';

  static create(config: CongestionConfig): Lia {
    return new Lia(config);
  }

  /**
   * RFC 6356 (1). Windows have fractions here, so an increase never rounds to nothing; alpha is worked out anew for each
   * ACK, from smoothed RTTs (4.1 would be content with once per RTT).
   */
  protected increasePerByte(): number {
    const { coupling } = this;
    return coupling.totalBytes > 0 ? Math.min(alpha(coupling) / coupling.totalBytes, 1 / this.cwnd) : 1 / this.cwnd;
  }
}

/** RFC 6356 (2), for a coupling just surveyed with any window in use. */
export function alpha(coupling: Coupling): number {
  return (coupling.totalBytes * coupling.maxWeight) / (coupling.sumRate * coupling.sumRate);
}
