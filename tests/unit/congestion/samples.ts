/** ACK samples by hand: a whole flight acknowledged segment by segment, as a path without queue or loss would. */
import { AckSample, type CongestionController } from '../../../src/core/congestion/controller.js';

export const MSS = 1000;

export class Acker {
  nowUs: number;
  delivered = 0;
  readonly sample = new AckSample();

  constructor(
    readonly controller: CongestionController,
    readonly rttUs: number,
    startUs = 1_000_000,
  ) {
    this.nowUs = startUs;
  }

  get cwndSegments(): number {
    return Math.round((this.controller.cwndBytes / MSS) * 100) / 100;
  }

  /** One ACK for `segments` now; `overrides` change what it says. */
  ack(segments: number, overrides: Partial<AckSample> = {}): void {
    const s = this.sample;
    this.delivered += segments * MSS;
    s.nowUs = this.nowUs;
    s.deliveredBytes = s.ackedBytes = segments * MSS;
    s.lostBytes = 0;
    s.priorInFlightBytes = this.controller.cwndBytes;
    s.inFlightBytes = Math.max(0, this.controller.cwndBytes - segments * MSS);
    s.rttUs = s.srttUs = s.minRttUs = this.rttUs;
    s.rateBytesPerS = 0;
    s.isAppLimited = false;
    s.totalDeliveredBytes = this.delivered;
    s.priorDeliveredBytes = this.delivered - segments * MSS;
    s.inRecovery = false;
    s.isCwndLimited = true;
    s.ece = false;
    Object.assign(s, overrides);
    this.controller.onAck(s);
  }

  /** One round trip: the whole window acknowledged, one segment per ACK, at the end of which time has moved one RTT. */
  round(overrides: Partial<AckSample> = {}): void {
    const segments = Math.floor(this.controller.cwndBytes / MSS);
    const priorDeliveredBytes = this.delivered;
    for (let i = 0; i < segments; i++) {
      this.nowUs += this.rttUs / segments;
      this.ack(1, { priorDeliveredBytes, ...overrides });
    }
  }
}
