/** NewReno (RFC 5681, 6582) with byte counting (RFC 3465) and HyStart++: the plain reference that others are held to. */
import type { AckSample, CongestionConfig } from './controller.js';
import { LossBasedController } from './loss-based.js';

export const BETA_LOSS = 0.5; // RFC 5681 (4)
export const BETA_ECN = 0.8; // RFC 8511 §3.1

export class Reno extends LossBasedController {
  readonly name = 'reno';

  static create(config: CongestionConfig): Reno {
    return new Reno(config);
  }

  protected decreaseFactor(kind: 'loss' | 'ecn'): number {
    return kind === 'ecn' ? BETA_ECN : BETA_LOSS;
  }

  /** RFC 5681 (3) with appropriate byte counting: one segment per window of delivered bytes. */
  protected avoid(sample: AckSample): void {
    if (sample.isCwndLimited) this.cwnd += (this.mssBytes * sample.deliveredBytes) / this.cwnd;
  }

  protected remember(): void {}
  protected restore(): void {}
}
