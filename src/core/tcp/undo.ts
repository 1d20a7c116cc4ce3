/**
 * Was the reduction of the window unnecessary? Three witnesses: the first ACK of a retransmission echoes a timestamp from
 * before it (Eifel, RFC 3522 3.2); after a timeout, data that was not sent again arrives (F-RTO, RFC 5682 3.1); DSACK says
 * of all that was retransmitted that it had arrived before (RFC 2883, RFC 3708 with its condition on the whole window).
 */
import type { Micros } from '../base/time.js';
import { isTsBefore } from './timestamps.js';

/** No retransmission since the reduction yet; and: the first one was judged, later ones do not count (RFC 3522 3.2). */
const WAITING = -1;
const JUDGED = -2;

export class UndoDetector {
  /** SND.UNA at the reduction; -1: there is none to undo. */
  #marker = -1;
  /** Retransmitted since then and not yet reported as duplicate. */
  #retransmittedBytes = 0;
  /** TSval and sequence number of the first retransmission; or one of the above. */
  #eifelTs = JUDGED;
  #eifelSeq = 0;
  #isFrtoArmed = false;
  #rtoAtUs: Micros = 0;
  #originalArrived = false;

  /** The window is being reduced. */
  start(sndUna: number): void {
    this.#marker = sndUna;
    this.#retransmittedBytes = 0;
    this.#eifelTs = WAITING;
  }

  /** A first timeout, before `start`; F-RTO works only if no recovery was under way (RFC 5682 2.1 step 1). */
  onRto(nowUs: Micros, isFromOpen: boolean): void {
    this.#isFrtoArmed = isFromOpen;
    this.#rtoAtUs = nowUs;
  }

  /** Undone. */
  stop(): void {
    this.#marker = -1;
    this.#eifelTs = JUDGED;
    this.#isFrtoArmed = false;
  }

  /** `tsVal` of the retransmission, -1 without timestamps. */
  onRetransmitted(seq: number, bytes: number, tsVal: number): void {
    if (this.#eifelTs === WAITING && tsVal >= 0) {
      this.#eifelTs = tsVal;
      this.#eifelSeq = seq;
    }
    this.#retransmittedBytes += bytes;
  }

  /** A lost segment went as a path probe. */
  onProbed(bytes: number): void {
    this.#retransmittedBytes += bytes;
  }

  beginAck(): void {
    this.#originalArrived = false;
  }

  /** Data sent only once, at `sentUs`, has arrived. */
  onOriginalDelivered(sentUs: Micros): void {
    if (sentUs < this.#rtoAtUs) this.#originalArrived = true;
  }

  /** During recovery: does this ACK, from `prevUna` to `ack`, show that it was unnecessary? */
  isSpurious(isRto: boolean, prevUna: number, ack: number, tsEcr: number): boolean {
    if (this.#marker < 0) return false;
    if (isRto && this.#isFrtoArmed && this.#originalArrived) return true;
    if (ack <= prevUna || this.#eifelTs < 0 || prevUna > this.#eifelSeq || ack <= this.#eifelSeq) return false;
    const isEarlier = tsEcr >= 0 && isTsBefore(tsEcr, this.#eifelTs);
    this.#eifelTs = JUDGED;
    return isEarlier;
  }

  /** [left, right) arrived twice. True: with it all that was retransmitted is accounted for. */
  onDsack(left: number, right: number): boolean {
    if (this.#marker < 0 || left < this.#marker || this.#retransmittedBytes <= 0) return false;
    this.#retransmittedBytes -= right - left;
    return this.#retransmittedBytes <= 0;
  }
}
