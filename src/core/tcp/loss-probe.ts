/**
 * TLP: when the tail of a flight goes unanswered for about two round trips, one probe asks for an ACK, so that RACK can
 * do what would else take an RTO (RFC 8985 section 7).
 */
import type { Micros } from '../base/time.js';
import { US_PER_MS } from '../base/time.js';
import type { RttEstimator } from './rtt.js';

/** A receiver with one segment may hold its ACK this long (RFC 8985 7.2). */
const MAX_ACK_DELAY_US = 200 * US_PER_MS;

export class LossProbe {
  /** SND.NXT when the probe was sent; -1: no episode. */
  endSeq = -1;
  /** A probe leaves at the next transmit. */
  isDue = false;
  /** When data was last sent or SND.UNA last advanced: the timeout counts from here. */
  baseUs: Micros = 0;
  #isRetransmission = false;
  /** RTT samples there were when the last probe left. */
  #samplesAtProbe = 0;

  get isActive(): boolean {
    return this.endSeq >= 0;
  }

  /** SND.UNA advanced: what was to be asked is answered. */
  restart(nowUs: Micros): void {
    this.baseUs = nowUs;
    this.isDue = false;
  }

  /** Once there is an RTT sample: probe timeout from the last transmission or cumulative ACK (7.2); the caller caps it by the RTO. */
  timeoutUs(rtt: RttEstimator, isSingleSegment: boolean): Micros {
    return 2 * rtt.srttUs + (isSingleSegment ? MAX_ACK_DELAY_US : 0);
  }

  /** 7.3: one probe at a time, and an RTT measured since the last one (or the start of the connection). */
  mayProbe(rtt: RttEstimator): boolean {
    return !this.isActive && rtt.samples > this.#samplesAtProbe;
  }

  onProbeSent(sndNxt: number, isRetransmission: boolean, rtt: RttEstimator): void {
    this.endSeq = sndNxt;
    this.#samplesAtProbe = rtt.samples;
    this.#isRetransmission = isRetransmission;
  }

  cancel(): void {
    this.endSeq = -1;
  }

  /**
   * 7.4.2. True: the probe repaired a loss that nothing else will report, so congestion control must hear of it.
   * `dsackEnd` is the right edge of this ACK's DSACK block or -1; `isPureDuplicate`: no data, no SACK, no advance.
   */
  onAck(ackSeq: number, dsackEnd: number, isPureDuplicate: boolean): boolean {
    if (this.endSeq < 0 || ackSeq < this.endSeq) return false;
    const repaired = this.#isRetransmission && dsackEnd !== this.endSeq && ackSeq > this.endSeq;
    const isOver = !this.#isRetransmission || dsackEnd === this.endSeq || ackSeq > this.endSeq || isPureDuplicate;
    if (isOver) this.endSeq = -1;
    return repaired;
  }
}
