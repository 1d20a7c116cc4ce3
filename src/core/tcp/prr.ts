/**
 * Proportional Rate Reduction (RFC 6937): during fast recovery, send in proportion to what arrives, so that the window
 * has come down to ssthresh when recovery ends, without a pause and without a burst.
 */
export class ProportionalRateReduction {
  /** Bytes that may be sent now. */
  quotaBytes = 0;
  #deliveredBytes = 0;
  #outBytes = 0;
  #recoverFlightBytes = 1;

  enter(flightBytes: number): void {
    this.#deliveredBytes = 0;
    this.#outBytes = 0;
    this.#recoverFlightBytes = Math.max(1, flightBytes);
    this.quotaBytes = 0;
  }

  /** `isSafe`: SND.UNA advanced and nothing further was lost, so slow start back to ssthresh is in order (PRR-SSRB). */
  onAck(deliveredBytes: number, inFlightBytes: number, ssthreshBytes: number, mssBytes: number, isSafe: boolean): void {
    this.#deliveredBytes += deliveredBytes;
    let quota: number;
    if (inFlightBytes > ssthreshBytes) {
      quota = Math.ceil((this.#deliveredBytes * ssthreshBytes) / this.#recoverFlightBytes) - this.#outBytes;
    } else {
      let limit = this.#deliveredBytes - this.#outBytes;
      if (isSafe) limit = Math.max(limit, deliveredBytes) + mssBytes;
      quota = Math.min(ssthreshBytes - inFlightBytes, limit);
    }
    // The fast retransmission itself always goes out (RFC 6937 3).
    if (this.#outBytes === 0) quota = Math.max(quota, mssBytes);
    this.quotaBytes = Math.max(0, quota);
  }

  onSent(bytes: number): void {
    this.#outBytes += bytes;
    this.quotaBytes = Math.max(0, this.quotaBytes - bytes);
  }
}
