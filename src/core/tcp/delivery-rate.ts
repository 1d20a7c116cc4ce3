/**
 * Delivery-rate samples (draft-ietf-ccwg-bbr, "delivery rate estimation"): each transmission notes how much had been
 * delivered when it left; its ACK tells how much has been since, over the longer of the send and the ACK interval.
 */
import type { Micros } from '../base/time.js';
import { US_PER_S } from '../base/time.js';
import type { SentRecord } from './scoreboard.js';

export class DeliveryRate {
  /** Total bytes delivered (SACKed or cumulatively ACKed). */
  deliveredBytes = 0;
  /** Filtered estimate for status and scheduling, bytes/s; 0 until the first sample. */
  bytesPerS = 0;

  // The sample that the current ACK yields.
  sampleBytesPerS = 0;
  sampleIsAppLimited = false;
  samplePriorDeliveredBytes = 0;

  /** What was sent before gives no samples: it measures an outage. */
  #restartUs: Micros = 0;
  #deliveredUs: Micros = 0;
  #flightStartUs: Micros = 0;
  /** Delivery total at which the last application-limited flight is over; 0: not limited. */
  #appLimitedUntilBytes = 0;
  // The piece with the most recent snapshot among those that this ACK delivered.
  #hasPiece = false;
  #pieceSentUs: Micros = 0;
  #pieceFlightStartUs: Micros = 0;
  #piecePriorDeliveredUs: Micros = 0;

  onSent(nowUs: Micros, rec: SentRecord, isFlightEmpty: boolean): void {
    if (isFlightEmpty) {
      this.#flightStartUs = nowUs;
      this.#deliveredUs = nowUs;
    }
    rec.flightStartUs = this.#flightStartUs;
    rec.priorDeliveredBytes = this.deliveredBytes;
    rec.priorDeliveredUs = this.#deliveredUs;
    rec.isAppLimited = this.#appLimitedUntilBytes > 0;
  }

  /** The application had nothing to send although the window had room. */
  onAppLimited(inFlightBytes: number): void {
    this.#appLimitedUntilBytes = Math.max(1, this.deliveredBytes + inFlightBytes);
  }

  /** The path is back after an outage: nothing is known of its rate. */
  restart(nowUs: Micros): void {
    this.#restartUs = nowUs;
    this.bytesPerS = 0;
  }

  beginAck(): void {
    this.#hasPiece = false;
  }

  onDelivered(nowUs: Micros, rec: SentRecord, bytes: number): void {
    this.deliveredBytes += bytes;
    this.#deliveredUs = nowUs;
    const isNewer =
      !this.#hasPiece ||
      rec.priorDeliveredBytes > this.samplePriorDeliveredBytes ||
      (rec.priorDeliveredBytes === this.samplePriorDeliveredBytes && rec.sentUs >= this.#pieceSentUs);
    if (!isNewer) return;
    this.#hasPiece = true;
    this.samplePriorDeliveredBytes = rec.priorDeliveredBytes;
    this.#piecePriorDeliveredUs = rec.priorDeliveredUs;
    this.sampleIsAppLimited = rec.isAppLimited;
    this.#pieceSentUs = rec.sentUs;
    this.#pieceFlightStartUs = rec.flightStartUs;
  }

  /** Computes `sample…` after the pieces of one ACK; sampleBytesPerS is 0 where there is no valid sample. */
  endAck(nowUs: Micros, minRttUs: Micros): void {
    this.sampleBytesPerS = 0;
    if (this.#appLimitedUntilBytes > 0 && this.deliveredBytes > this.#appLimitedUntilBytes) {
      this.#appLimitedUntilBytes = 0;
    }
    if (!this.#hasPiece) {
      this.samplePriorDeliveredBytes = this.deliveredBytes;
      return;
    }
    // The next sample's send interval begins with this piece.
    this.#flightStartUs = this.#pieceSentUs;
    if (this.#pieceSentUs < this.#restartUs) return;
    const sendUs = this.#pieceSentUs - this.#pieceFlightStartUs;
    const ackUs = nowUs - this.#piecePriorDeliveredUs;
    const intervalUs = Math.max(sendUs, ackUs);
    // Less than a round trip means that an ACK of an earlier transmission was taken for this one's.
    if (intervalUs <= 0 || intervalUs < minRttUs) return;
    const rate = ((this.deliveredBytes - this.samplePriorDeliveredBytes) * US_PER_S) / intervalUs;
    this.sampleBytesPerS = rate;
    if (this.bytesPerS === 0) this.bytesPerS = rate;
    else if (!this.sampleIsAppLimited || rate > this.bytesPerS) this.bytesPerS += (rate - this.bytesPerS) / 8;
  }
}
