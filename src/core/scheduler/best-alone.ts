/**
 * What the best path alone would give: the yardstick for "never worse than the best link" (DESIGN 1), and a line in `status`.
 * Nobody can know it while several paths are in use, but a path shows what it can carry whenever it is full: the estimate is
 * the highest rate that any one path was seen to carry over a whole interval, lately. A path that was never full counts with
 * what it did carry, so the estimate is never too high for want of evidence.
 */
import type { Micros } from '../base/time.js';
import { US_PER_S } from '../base/time.js';

/** Rates are averages over at least this long, so that a burst is not taken for a rate … */
const INTERVAL_US: Micros = 900_000;
/** … and count for so long. */
const KEEP_US: Micros = 15_000_000;
/** Paths that are remembered at most; the one that was seen least lately goes. */
const MAX_PATHS = 64;

export interface BestPath {
  readonly path: string;
  readonly bytesPerS: number;
}

class Seen {
  markUs: Micros;
  markBytes: number;
  /** Newest whole interval. */
  rate = 0;
  peak = 0;
  peakUs: Micros = 0;

  constructor(nowUs: Micros, bytes: number) {
    this.markUs = nowUs;
    this.markBytes = bytes;
  }
}

export class BestAlone {
  readonly #paths = new Map<string, Seen>();

  /** The path has carried `bytes` so far (a counter; starting afresh is fine). As often as one likes. */
  note(nowUs: Micros, path: string, bytes: number): void {
    let seen = this.#paths.get(path);
    if (seen === undefined || bytes < seen.markBytes) {
      const peak = seen;
      seen = new Seen(nowUs, bytes);
      if (peak !== undefined) {
        seen.peak = peak.peak;
        seen.peakUs = peak.peakUs;
      }
      this.#paths.delete(path);
      if (this.#paths.size >= MAX_PATHS) this.#paths.delete(this.#paths.keys().next().value!);
      this.#paths.set(path, seen);
      return;
    }
    const elapsedUs = nowUs - seen.markUs;
    if (elapsedUs < INTERVAL_US) return;
    seen.rate = ((bytes - seen.markBytes) * US_PER_S) / elapsedUs;
    seen.markUs = nowUs;
    seen.markBytes = bytes;
    if (seen.rate < seen.peak && nowUs - seen.peakUs <= KEEP_US) return;
    seen.peak = seen.rate;
    seen.peakUs = nowUs;
  }

  /** Its link is gone, or has turned out to carry less: what it carried before says nothing any more. */
  forget(path: string): void {
    this.#paths.delete(path);
  }

  /** Null: nothing was carried lately. */
  best(nowUs: Micros): BestPath | null {
    let best: BestPath | null = null;
    for (const [path, seen] of this.#paths) {
      if (seen.peak <= 0 || nowUs - seen.peakUs > KEEP_US) continue;
      if (best === null || seen.peak > best.bytesPerS) best = { path, bytesPerS: seen.peak };
    }
    return best;
  }

  /** What the path carried in the newest whole interval, bytes/s. */
  rateOf(path: string): number {
    return this.#paths.get(path)?.rate ?? 0;
  }
}
