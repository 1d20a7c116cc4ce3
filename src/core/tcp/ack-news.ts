/**
 * What one acceptable ACK says, gathered while it is processed, and the RTT sample it yields (Karn's rule, RFC 6298 3; the
 * timestamp echo makes retransmissions measurable, RFC 7323 4.1). One object is used again for every ACK.
 */
import type { Micros } from '../base/time.js';
import type { SentRecord } from './scoreboard.js';
import { isTsBefore, type Timestamps } from './timestamps.js';

export class AckNews {
  /** SND.UNA before and after. */
  prevUna = 0;
  ack = 0;
  /** Outstanding before: bytes of sequence space, and RFC 6675's pipe. */
  flightBytes = 0;
  priorInFlightBytes = 0;
  /** TSecr, -1 without timestamps. */
  tsEcr = -1;
  hasEce = false;
  /** RFC 5681 2: no data, no advance, no window update. */
  isDuplicate = false;
  hasSack = false;
  /** Right edge of its DSACK block, -1: none. */
  dsackEnd = -1;
  /** First known to have arrived with this ACK. */
  deliveredBytes = 0;

  #nowUs: Micros = 0;
  #isCumulative = false;
  #newestSentUs: Micros = -1;
  #retransmittedSentUs: Micros = -1;
  #retransmittedFirstUs: Micros = -1;

  get advanced(): boolean {
    return this.ack > this.prevUna;
  }

  /** By how much SND.UNA moved. */
  get ackedBytes(): number {
    return this.ack - this.prevUna;
  }

  begin(nowUs: Micros, prevUna: number, ack: number, flightBytes: number, inFlightBytes: number, tsEcr: number): void {
    this.#nowUs = nowUs;
    this.prevUna = prevUna;
    this.ack = ack;
    this.flightBytes = flightBytes;
    this.priorInFlightBytes = inFlightBytes;
    this.tsEcr = tsEcr;
    this.dsackEnd = -1;
    this.deliveredBytes = 0;
    this.#isCumulative = true;
    this.#newestSentUs = -1;
    this.#retransmittedSentUs = -1;
  }

  /** The cumulative part is done; what follows is SACKed. */
  endCumulative(): void {
    this.#isCumulative = false;
  }

  onDelivered(rec: SentRecord, bytes: number): void {
    this.deliveredBytes += bytes;
    if (rec.transmissions === 1) {
      if (rec.sentUs > this.#newestSentUs) this.#newestSentUs = rec.sentUs;
    } else if (this.#isCumulative && rec.sentUs > this.#retransmittedSentUs) {
      this.#retransmittedSentUs = rec.sentUs;
      this.#retransmittedFirstUs = rec.firstSentUs;
    }
  }

  /**
   * The echo is older than this record's last transmission: an earlier one is answered. Only a cumulative ACK can say so,
   * as TS.Recent does not move for data out of order.
   */
  answersEarlier(rec: SentRecord, ts: Timestamps): boolean {
    return this.#isCumulative && this.tsEcr >= 0 && isTsBefore(this.tsEcr, ts.valueAt(rec.sentUs));
  }

  /** The RTT sample of this ACK, -1 if it yields none. */
  rttUs(ts: Timestamps): Micros {
    if (this.#newestSentUs >= 0) return this.#nowUs - this.#newestSentUs;
    if (this.#retransmittedSentUs < 0 || this.tsEcr < 0) return -1;
    // The echo says which transmission is answered. One that is neither the last nor the first is what a receiver repeats
    // when it gets duplicates: it measures a lost ACK, not the path.
    if (this.tsEcr === ts.valueAt(this.#retransmittedSentUs)) return this.#nowUs - this.#retransmittedSentUs;
    if (this.tsEcr === ts.valueAt(this.#retransmittedFirstUs)) return this.#nowUs - this.#retransmittedFirstUs;
    return -1;
  }
}
