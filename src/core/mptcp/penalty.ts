/**
 * Penalisation (DESIGN 3.5): a path that filled the peer's window has more of the stream than it
 * delivers in time, so its window for new bytes is halved, at most once in its RTT. Each RTT without a further penalty gives
 * a quarter back, until it is wider than what congestion control admits anyway. Congestion control itself is left alone:
 * nothing was lost, and its view of the path is right.
 */
import type { Micros } from '../base/time.js';

const GROWTH = 1.25;
const MIN_SEGMENTS = 4;

export class Penalty {
  /** What may be in flight; Infinity: no penalty. */
  windowBytes = Number.POSITIVE_INFINITY;
  private imposedUs: Micros = Number.NEGATIVE_INFINITY;
  private grownUs: Micros = Number.NEGATIVE_INFINITY;

  /** False: it was penalised within this RTT already. */
  impose(nowUs: Micros, rttUs: Micros, cwndBytes: number, inFlightBytes: number, mssBytes: number): boolean {
    if (nowUs - this.imposedUs < rttUs) return false;
    // A window that is wider than what is in flight would be halved in vain.
    const usedBytes = Math.min(this.windowBytes, cwndBytes, inFlightBytes);
    this.windowBytes = Math.max(MIN_SEGMENTS * mssBytes, usedBytes / 2);
    this.imposedUs = nowUs;
    this.grownUs = nowUs;
    return true;
  }

  /** Time passes. */
  relax(nowUs: Micros, rttUs: Micros, cwndBytes: number): void {
    if (this.windowBytes === Number.POSITIVE_INFINITY || nowUs - this.grownUs < rttUs) return;
    this.windowBytes *= GROWTH;
    this.grownUs = nowUs;
    if (this.windowBytes >= cwndBytes) this.windowBytes = Number.POSITIVE_INFINITY;
  }
}
