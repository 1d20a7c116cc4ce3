/** When the bytes of one transfer arrived: the basis of every rate and gap that the lab reports. */

const BIN_MS = 10;
/** Shorter times without a byte are not remembered one by one. */
const NOTED_GAP_MS = 5;

export interface ArrivalsJson {
  readonly startMs: number;
  readonly lastMs: number;
  readonly bins: readonly number[];
  readonly gapMs: number;
  readonly gapStartMs: number;
  /** Each time without a byte of 5 ms or more: when it began and ended. */
  readonly gaps: readonly (readonly [number, number])[];
}

/** Times are milliseconds of one monotonic clock (`performance`-like), the same for every process of the machine. */
export class Arrivals {
  startMs = Number.NaN;
  lastMs = Number.NaN;
  totalBytes = 0;
  /** Longest time without a byte between the first and the last one, and when it began. */
  gapMs = 0;
  gapStartMs = Number.NaN;
  #bins: number[] = [];
  #gaps: (readonly [startMs: number, endMs: number])[] = [];

  static fromJson(json: ArrivalsJson): Arrivals {
    const a = new Arrivals();
    a.startMs = json.startMs;
    a.lastMs = json.lastMs;
    a.gapMs = json.gapMs;
    a.gapStartMs = json.gapStartMs;
    a.#bins = [...json.bins];
    a.#gaps = [...json.gaps];
    a.totalBytes = json.bins.reduce((sum, bytes) => sum + bytes, 0);
    return a;
  }

  toJson(): ArrivalsJson {
    return {
      startMs: this.startMs,
      lastMs: this.lastMs,
      bins: this.#bins,
      gapMs: this.gapMs,
      gapStartMs: this.gapStartMs,
      gaps: this.#gaps,
    };
  }

  record(nowMs: number, bytes: number): void {
    if (this.totalBytes === 0) {
      this.startMs = this.lastMs = nowMs;
    }
    if (nowMs - this.lastMs > this.gapMs) {
      this.gapMs = nowMs - this.lastMs;
      this.gapStartMs = this.lastMs;
    }
    if (nowMs - this.lastMs >= NOTED_GAP_MS) this.#gaps.push([this.lastMs, nowMs]);
    this.lastMs = nowMs;
    this.totalBytes += bytes;
    const bin = Math.floor((nowMs - this.startMs) / BIN_MS);
    while (this.#bins.length <= bin) this.#bins.push(0);
    this.#bins[bin] = this.#bins[bin]! + bytes;
  }

  /**
   * Longest time without a byte within [fromMs, toMs] of the clock; what of it lies outside does not count. A gap that is
   * still open counts up to `toMs`. 0: none of 5 ms or more.
   */
  gapBetweenMs(fromMs: number, toMs: number): number {
    let longestMs = 0;
    for (const [startMs, endMs] of [...this.#gaps, [this.lastMs, Number.POSITIVE_INFINITY] as const]) {
      longestMs = Math.max(longestMs, Math.min(endMs, toMs) - Math.max(startMs, fromMs));
    }
    return longestMs < NOTED_GAP_MS ? 0 : longestMs;
  }

  /** Bytes that came within [fromMs, toMs) of the clock, to the bin of 10 ms. */
  bytesBetween(fromMs: number, toMs: number): number {
    const first = Math.max(0, Math.round((fromMs - this.startMs) / BIN_MS));
    const last = Math.min(this.#bins.length, Math.round((toMs - this.startMs) / BIN_MS));
    let bytes = 0;
    for (let i = first; i < last; i++) bytes += this.#bins[i]!;
    return bytes;
  }

  /** Mean payload rate from `skipMs` after the first byte until `endMs` after it (default: the last byte), in bit/s. */
  rateBps(skipMs: number, endMs = this.lastMs - this.startMs): number {
    const first = Math.ceil(skipMs / BIN_MS);
    const last = Math.min(this.#bins.length, Math.floor(endMs / BIN_MS));
    if (last <= first) return 0;
    let bytes = 0;
    for (let i = first; i < last; i++) bytes += this.#bins[i]!;
    return (bytes * 8 * 1000) / ((last - first) * BIN_MS);
  }

  /** Payload rates of consecutive spans of `spanMs`, bit/s. */
  ratesBps(spanMs: number): number[] {
    const perSpan = spanMs / BIN_MS;
    const rates: number[] = [];
    for (let i = 0; i < this.#bins.length; i += perSpan) {
      rates.push((this.#bins.slice(i, i + perSpan).reduce((a, b) => a + b, 0) * 8000) / spanMs);
    }
    return rates;
  }

  /**
   * Slope of the straight line through the cumulative bytes, in bit/s: the steady rate, with little weight on where the
   * window begins and ends (a retransmission delivers many bytes at once, and would count fully at an edge).
   */
  slopeBps(fromMs: number, toMs: number): number {
    const first = Math.ceil(fromMs / BIN_MS);
    const last = Math.min(this.#bins.length, Math.floor(toMs / BIN_MS));
    const mid = (first + last - 1) / 2;
    let cumulative = 0;
    let covariance = 0;
    let variance = 0;
    for (let i = first; i < last; i++) {
      cumulative += this.#bins[i]!;
      covariance += (i - mid) * cumulative;
      variance += (i - mid) ** 2;
    }
    return variance === 0 ? 0 : (covariance / variance) * ((8 * 1000) / BIN_MS);
  }
}

/** Milliseconds on CLOCK_MONOTONIC, comparable between the processes of one machine. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
