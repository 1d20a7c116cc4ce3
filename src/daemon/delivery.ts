/**
 * When inner data of a session was delivered at this end, and which silences there were: what the gap of a handover is
 * measured on. Only a silence that began while data was coming steadily counts: then more was due. A ping does not end the
 * silence of a download: it takes 1 ms' worth of what had come before.
 *
 *   deliveries   | || | |||        |  ||| ||      `longestSilenceUs(from, to)`: the longest that began in between
 *                         ^ began ^ ended
 */
import type { Micros } from '../core/base/time.js';

/** Shorter silences are not kept, and count as none. */
export const MIN_SILENCE_US = 5_000;
/** Silences kept; the oldest goes. At the shortest they cover 1.28 s, which is more than a receipt looks back. */
const KEPT_SILENCES = 256;
/**
 * Data was coming steadily if this many of the 32 last bins had some: 0.8 of 1.6 s, so that one request is not enough, and a
 * busy host, which takes in what came in lumps, does not matter.
 */
const BIN_US = 50_000;
const STEADY_BINS = 16;
/** Share of a bin's usual bytes that ends a silence. */
const WORTH = 0.02;

export class DeliveryTrack {
  /** Time of the last delivery that was worth something. */
  lastUs: Micros = Number.NEGATIVE_INFINITY;
  /** The bins up to that of the last delivery, the newest in bit 0. */
  private bins = 0;
  private lastBin = 0;
  private readonly binBytes = new Float64Array(32);
  /** Came since `lastUs`. */
  private newBytes = 0;
  private readonly startUs = new Float64Array(KEPT_SILENCES).fill(Number.NEGATIVE_INFINITY);
  private readonly endUs = new Float64Array(KEPT_SILENCES).fill(Number.NEGATIVE_INFINITY);
  private next = 0;

  delivered(nowUs: Micros, bytes: number): void {
    this.newBytes += bytes;
    if (this.isSteady && this.newBytes < WORTH * this.usualBytes) return;
    if (nowUs - this.lastUs >= MIN_SILENCE_US && this.isSteady) {
      this.startUs[this.next] = this.lastUs;
      this.endUs[this.next] = nowUs;
      this.next = (this.next + 1) % KEPT_SILENCES;
    }
    const bin = Math.floor(nowUs / BIN_US);
    const passed = bin - this.lastBin;
    this.bins = passed >= 32 ? 1 : (this.bins << passed) | 1;
    if (passed > 0) this.binBytes[bin % 32] = 0;
    this.binBytes[bin % 32] = this.binBytes[bin % 32]! + this.newBytes;
    this.newBytes = 0;
    this.lastBin = bin;
    this.lastUs = nowUs;
  }

  /** Data was coming steadily, and nothing has come for `leastUs`. */
  isSilent(nowUs: Micros, leastUs = MIN_SILENCE_US): boolean {
    return nowUs - this.lastUs >= leastUs && this.isSteady;
  }

  /**
   * The longest silence that began in [fromUs, toUs) and has ended, in microseconds; 0 where data came all the time; null
   * where nothing was due: no steady data then, or none that came back.
   */
  longestSilenceUs(fromUs: Micros, toUs: Micros): number | null {
    let longest = this.lastUs >= fromUs && this.isSteady ? 0 : -1;
    for (let i = 0; i < KEPT_SILENCES; i++) {
      const start = this.startUs[i]!;
      if (start >= fromUs && start < toUs) longest = Math.max(longest, this.endUs[i]! - start);
    }
    return longest < 0 ? null : longest;
  }

  private get isSteady(): boolean {
    return this.filledBins >= STEADY_BINS;
  }

  private get filledBins(): number {
    let set = 0;
    for (let bins = this.bins; bins !== 0; bins &= bins - 1) set++;
    return set;
  }

  /** Of a bin that had any. */
  private get usualBytes(): number {
    let sum = 0;
    for (let i = 0; i < 32; i++) if ((this.bins >>> i) & 1) sum += this.binBytes[(this.lastBin - i + 32) % 32]!;
    return sum / Math.max(1, this.filledBins);
  }
}
