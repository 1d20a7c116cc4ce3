/** The timestamps option of one subflow: clock, echo, PAWS (RFC 7323 sections 3 to 5). */
import type { Micros } from '../base/time.js';
import { US_PER_MS } from '../base/time.js';

/** TS.Recent is not to be believed after this much silence (RFC 7323 5.5): the 1 ms clock may have passed half its range. */
const RECENT_LIFETIME_US = 24 * 24 * 3600 * 1_000_000;
/**
 * How much older than TS.Recent a segment may be, in the peer's ticks (1 ms is the rule). Deviation from RFC 7323 5.3 R1,
 * which says 0: behind a retransmission, data that was merely overtaken is older than TS.Recent, and dropping it makes
 * each reordering a loss (measured: 111 drops in 8 s at 20 Mbit/s with 8 ms of jitter). An old duplicate needs the sequence
 * space to wrap within the slack: 34 Gbit/s.
 */
const PAWS_SLACK_TICKS = 1_000;

/** An older echo than this says that the peer had nothing to send. */
const MAX_DATA_AGE_US = 5_000_000;
const DATA_AGE_GAIN = 1 / 8;

export class Timestamps {
  /** Both ends sent the option in their SYNs. */
  enabled = false;
  /** TS.Recent: what we echo. */
  recent = 0;
  /** The latest of our own values that the peer has echoed. */
  #echoed: number | null = null;
  #recentUs: Micros = 0;
  #hasRecent = false;
  /** Smoothed age of what data echoes: the round trip as a receiver sees it. 0: nothing came yet. */
  dataAgeUs: Micros = 0;
  #agedEcho = -1;

  /** `offset`: not to be guessed, so that the clock tells nobody our uptime (RFC 7323 7.1). */
  constructor(private readonly offset: number) {}

  /** TSval for a segment sent at `nowUs`: 1 ms per tick (RFC 7323 5.4). */
  valueAt(nowUs: Micros): number {
    return timestampAt(nowUs, this.offset);
  }

  /** Age of an echoed value in microseconds, a multiple of the tick; negative: not ours. */
  ageUs(nowUs: Micros, tsEcr: number): Micros {
    return ((this.valueAt(nowUs) - tsEcr) | 0) * US_PER_MS;
  }

  /** A segment that is ours to believe echoes `tsEcr`. */
  onEcho(tsEcr: number): void {
    if (this.#echoed === null || isTsBefore(this.#echoed, tsEcr)) this.#echoed = tsEcr;
  }

  /** Whether something that was sent at `sentUs` or later has been echoed. */
  hasEchoed(sentUs: Micros): boolean {
    return this.#echoed !== null && !isTsBefore(this.#echoed, this.valueAt(sentUs));
  }

  /** Data echoes `tsEcr`: one sample for each of our values. */
  onDataEcho(nowUs: Micros, tsEcr: number): void {
    if (tsEcr === this.#agedEcho) return;
    this.#agedEcho = tsEcr;
    const ageUs = Math.max(this.ageUs(nowUs, tsEcr), US_PER_MS);
    if (ageUs > MAX_DATA_AGE_US) return;
    this.dataAgeUs += this.dataAgeUs === 0 ? ageUs : (ageUs - this.dataAgeUs) * DATA_AGE_GAIN;
  }

  /** The peer's SYN. */
  onSyn(nowUs: Micros, tsVal: number): void {
    this.recent = tsVal;
    this.#recentUs = nowUs;
    this.#hasRecent = true;
  }

  /** RFC 7323 5.3 R1: the segment is older than what was last seen. */
  failsPaws(nowUs: Micros, tsVal: number): boolean {
    if (!this.#hasRecent || nowUs - this.#recentUs > RECENT_LIFETIME_US) return false;
    return ((tsVal - this.recent) | 0) < -PAWS_SLACK_TICKS;
  }

  /** RFC 7323 4.3 (2): only a segment that spans the last ACK sent may move the echo. */
  onAccepted(nowUs: Micros, tsVal: number, seq: number, lastAckSent: number): void {
    if (seq > lastAckSent) return;
    if (this.#hasRecent && ((tsVal - this.recent) | 0) < 0 && nowUs - this.#recentUs <= RECENT_LIFETIME_US) return;
    this.onSyn(nowUs, tsVal);
  }
}

/** TSval at `nowUs` of a clock with that offset. */
export function timestampAt(nowUs: Micros, offset: number): number {
  return ((Math.floor(nowUs / US_PER_MS) % 0x1_0000_0000) + offset) >>> 0;
}

/** a < b on the 32-bit timestamp clock. */
export function isTsBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}
