/** When the bytes of one transfer arrived: the basis of every rate and gap that the lab reports. */

const BIN_MS = 10;

export interface ArrivalsJson {
  readonly startMs: number;
  readonly lastMs: number;
  readonly bins: readonly number[];
  readonly gapMs: number;
  readonly gapStartMs: number;
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

  static fromJson(json: ArrivalsJson): Arrivals {
    const a = new Arrivals();
    a.startMs = json.startMs;
    a.lastMs = json.lastMs;
    a.gapMs = json.gapMs;
    a.gapStartMs = json.gapStartMs;
    a.#bins = [...json.bins];
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
    this.lastMs = nowMs;
    this.totalBytes += bytes;
    const bin = Math.floor((nowMs - this.startMs) / BIN_MS);
    while (this.#bins.length <= bin) this.#bins.push(0);
    this.#bins[bin] = this.#bins[bin]! + bytes;
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
