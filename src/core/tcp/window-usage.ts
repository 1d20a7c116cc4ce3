/**
 * Congestion-window validation (RFC 7661, in the shape of Linux' tcp_cwnd_validate): a window that the last flight did not
 * use is not allowed to grow.
 */
export class WindowUsage {
  #isLimited = false;
  /** End of the flight that the verdict is about, and the most it had in flight. */
  #flightEnd = 0;
  #maxFlightBytes = 0;

  /** The window held bytes back. */
  onLimited(): void {
    this.#isLimited = true;
  }

  /** Something was sent. */
  onSent(sndUna: number, sndNxt: number, inFlightBytes: number, cwndBytes: number, mssBytes: number): void {
    const isLimited = cwndBytes - inFlightBytes < mssBytes;
    const isMore = !this.#isLimited && inFlightBytes > this.#maxFlightBytes;
    if (sndUna < this.#flightEnd && !isLimited && !isMore) return;
    this.#isLimited = isLimited;
    this.#maxFlightBytes = inFlightBytes;
    this.#flightEnd = sndNxt;
  }

  /** In slow start half the window is enough, as the next round trip may fill it. */
  isCwndLimited(inSlowStart: boolean, cwndBytes: number): boolean {
    return this.#isLimited || (inSlowStart && cwndBytes < 2 * this.#maxFlightBytes);
  }
}
