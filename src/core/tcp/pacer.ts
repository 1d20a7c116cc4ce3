/**
 * Pacing by credit (DESIGN 3.5). Credit grows at the controller's rate; a wake-up that comes late finds what has accrued
 * meanwhile, at most 2 ms' worth. Sending waits until a whole quantum (one super-packet) has accrued, so that a fast path
 * is not chopped into single segments by whoever polls often.
 *
 * Where wake-ups are habitually later than that (a busy machine), 2 ms of credit a wake-up would be a rate limit of our
 * own making, which a rate-based controller measures, believes and lowers further. So the cap follows the lateness seen,
 * within bounds, and credit that is lost at the cap is reported: the flight was limited by us, not by the path.
 */
import type { Micros } from '../base/time.js';
import { NEVER, US_PER_S } from '../base/time.js';

/** Most that a late wake-up may send … */
const MAX_BURST_US = 2_000;
/** … and where they are late as a rule: this often the usual lateness, but never more than that. */
const LATE_BURSTS = 2;
const MAX_LATE_BURST_US = 25_000;
/** A super-packet is what the pacing rate sends in this time (DESIGN 3.2) … */
const QUANTUM_US = 1_000;
/** … and at least this many segments. */
const MIN_QUANTUM_SEGMENTS = 2;

export class Pacer {
  #creditBytes = Number.POSITIVE_INFINITY;
  #updatedUs: Micros = 0;
  #rateBytesPerS = Number.POSITIVE_INFINITY;
  #quantumBytes = 0;
  /** When a sender that waits for credit is to be woken; NEVER while none waits. */
  #awaitedUs: Micros = NEVER;
  /** Smoothed lateness of those wake-ups. */
  #lateUs: Micros = 0;
  #lostCredit = false;

  constructor(private readonly maxSuperBytes: number) {}

  /** Payload of one super-packet at the current rate: whole segments. */
  get quantumBytes(): number {
    return this.#quantumBytes;
  }

  /** Brings credit up to date; call it before the others. */
  update(nowUs: Micros, rateBytesPerS: number, mssBytes: number): void {
    const maxSegments = Math.max(MIN_QUANTUM_SEGMENTS, Math.floor(this.maxSuperBytes / mssBytes));
    const perQuantum = (rateBytesPerS * QUANTUM_US) / US_PER_S;
    const segments = Math.max(MIN_QUANTUM_SEGMENTS, Math.min(maxSegments, Math.floor(perQuantum / mssBytes)));
    this.#quantumBytes = segments * mssBytes;
    const burstUs = Math.min(MAX_LATE_BURST_US, Math.max(MAX_BURST_US, LATE_BURSTS * this.#lateUs));
    const isAwaited = nowUs >= this.#awaitedUs;
    if (isAwaited) {
      this.#lateUs += (nowUs - this.#awaitedUs - this.#lateUs) / 8;
      this.#awaitedUs = NEVER;
    }
    const capBytes = Math.max(this.#quantumBytes, (rateBytesPerS * burstUs) / US_PER_S);
    const earned =
      rateBytesPerS === Number.POSITIVE_INFINITY ? 0 : ((nowUs - this.#updatedUs) * rateBytesPerS) / US_PER_S;
    if (isAwaited && this.#creditBytes + earned > capBytes) this.#lostCredit = true;
    this.#creditBytes = Math.min(capBytes, this.#creditBytes + earned);
    if (rateBytesPerS === Number.POSITIVE_INFINITY) this.#creditBytes = rateBytesPerS;
    this.#rateBytesPerS = rateBytesPerS;
    this.#updatedUs = nowUs;
  }

  /** Bytes that may leave now: all credit once a quantum has accrued, else nothing. */
  get allowanceBytes(): number {
    return this.#creditBytes >= this.#quantumBytes ? this.#creditBytes : 0;
  }

  /** When `allowanceBytes` becomes positive. */
  readyAtUs(nowUs: Micros): Micros {
    const missing = this.#quantumBytes - this.#creditBytes;
    if (missing <= 0) return nowUs;
    return nowUs + Math.ceil((missing * US_PER_S) / this.#rateBytesPerS);
  }

  /** As `readyAtUs`, for a sender that has bytes and asks to be woken then: how late that is will be noted. */
  awaitCredit(nowUs: Micros): Micros {
    const readyUs = this.readyAtUs(nowUs);
    this.#awaitedUs = readyUs > nowUs ? readyUs : NEVER;
    return readyUs;
  }

  /** The bytes that waited for credit are gone: the next update is no late wake-up. */
  forget(): void {
    this.#awaitedUs = NEVER;
  }

  /** Whether credit was lost to late wake-ups since the last call. */
  takeLostCredit(): boolean {
    const lost = this.#lostCredit;
    this.#lostCredit = false;
    return lost;
  }

  /** Retransmissions and probes may overdraw. */
  spend(bytes: number): void {
    this.#creditBytes -= bytes;
  }
}
