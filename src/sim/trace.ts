/**
 * Recorded capacity of a radio link (the format of Mahimahi and Saturator): one line is one opportunity to send
 * `OPPORTUNITY_BYTES`, in milliseconds from the start; the file repeats at its end.
 */
import type { Micros } from '../core/base/time.js';

/** Bytes that one line of a trace can carry. */
export const OPPORTUNITY_BYTES = 1500;
/** Lines we accept: at 1 Gbit/s this is 12 s of link. */
export const MAX_TRACE_LINES = 1_000_000;

export interface LinkTrace {
  /** Opportunities in microseconds from the start, not decreasing. */
  readonly atUs: Float64Array;
  /** The trace repeats with this period, > 0. */
  readonly periodUs: Micros;
}

/** Throws RangeError naming the line that is wrong. */
export function parseTrace(text: string): LinkTrace {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  if (lines.length === 0) throw new RangeError('trace: empty');
  if (lines.length > MAX_TRACE_LINES) throw new RangeError(`trace: more than ${MAX_TRACE_LINES} lines`);
  const atUs = new Float64Array(lines.length);
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!.trim();
    if (!/^\d{1,12}$/.test(line)) throw new RangeError(`trace: line ${i + 1}: not a number of milliseconds: ${line}`);
    atUs[i] = Number(line) * 1000;
    if (i > 0 && atUs[i]! < atUs[i - 1]!) throw new RangeError(`trace: line ${i + 1}: time goes back`);
  }
  const periodUs = atUs[lines.length - 1]!;
  if (periodUs <= 0) throw new RangeError('trace: all opportunities at 0 ms');
  return { atUs, periodUs };
}

/** Average bits per second of a trace, an integer. */
export function traceRateBps(trace: LinkTrace): number {
  return Math.round((trace.atUs.length * OPPORTUNITY_BYTES * 8e6) / trace.periodUs);
}

/** Walks the opportunities of a trace that started at `startUs`. */
export class TraceCursor {
  private index = 0;
  private lapUs: Micros;

  constructor(
    private readonly trace: LinkTrace,
    startUs: Micros,
  ) {
    this.lapUs = startUs;
  }

  /** Instant of the opportunity that `take` would use up. */
  get nextUs(): Micros {
    return this.lapUs + this.trace.atUs[this.index]!;
  }

  take(): void {
    if (++this.index < this.trace.atUs.length) return;
    this.index = 0;
    this.lapUs += this.trace.periodUs;
  }

  /** Skips opportunities that went by unused before `nowUs`. */
  seek(nowUs: Micros): void {
    if (this.nextUs >= nowUs) return;
    const { atUs, periodUs } = this.trace;
    const laps = Math.floor((nowUs - this.lapUs) / periodUs);
    if (laps > 0) {
      this.lapUs += laps * periodUs;
      this.index = 0;
    }
    let low = this.index;
    let high = atUs.length;
    while (low < high) {
      const mid = (low + high) >>> 1;
      if (this.lapUs + atUs[mid]! < nowUs) low = mid + 1;
      else high = mid;
    }
    this.index = low;
    if (low === atUs.length) {
      this.index = 0;
      this.lapUs += periodUs;
    }
  }
}
