/**
 * Path MTU of one subflow: ICMP reports (RFC 1191, RFC 8201), validated by the caller (RFC 5927 7.2), and black-hole
 * detection for paths that drop large packets without a word (RFC 4821 section 7.7, RFC 2923 2.1).
 *
 * A dead path looks like a black hole, so a suspicion costs nothing until it is confirmed: after two timeouts of full
 * segments smaller ones are tried; when one gets through, the full size is tried once more; only if that fails again
 * while small ones pass is the smaller size kept.
 */
import type { Micros } from '../base/time.js';
import { US_PER_S } from '../base/time.js';

/** Reports below these are not believed (RFC 1191 3 with the 68-byte attack in mind; RFC 8201 4). */
const MIN_MTU_V4 = 552;
const MIN_MTU_V6 = 1280;
/** A larger MTU is tried again this long after a decrease (RFC 1191 6.3, RFC 8201 4: not before 5 min; 10 recommended). */
const RAISE_AFTER_US = 600 * US_PER_S;
/** Sizes that black-hole detection tries. */
const PLATEAUS = [1400, 1280, 1024, MIN_MTU_V4];
const SUSPECT_AFTER_RTOS = 2;
const CONFIRM_AFTER = 2;
/** Progress at full size that clears an earlier suspicion. */
const ACQUIT_AFTER_BYTES = 128 * 1024;

export class PathMtu {
  mtuBytes: number;
  #linkMtuBytes: number;
  #loweredUs: Micros = 0;
  #fullSizeRtos = 0;
  /** Times that small segments passed where full ones had not. */
  #strikes = 0;
  #isSuspecting = false;
  #bytesSinceRestored = 0;

  constructor(
    linkMtuBytes: number,
    private readonly isV6: boolean,
  ) {
    this.#linkMtuBytes = linkMtuBytes;
    this.mtuBytes = linkMtuBytes;
  }

  get minMtuBytes(): number {
    return this.isV6 ? MIN_MTU_V6 : MIN_MTU_V4;
  }

  /** True: the path MTU became smaller. */
  onPacketTooBig(nowUs: Micros, mtuBytes: number): boolean {
    const mtu = Math.max(mtuBytes, Math.min(this.minMtuBytes, this.#linkMtuBytes));
    if (mtu >= this.mtuBytes) return false;
    this.mtuBytes = mtu;
    this.#loweredUs = nowUs;
    this.#isSuspecting = false;
    return true;
  }

  onLinkMtu(mtuBytes: number): void {
    const wasLowered = this.mtuBytes < this.#linkMtuBytes;
    this.#linkMtuBytes = mtuBytes;
    this.mtuBytes = wasLowered ? Math.min(this.mtuBytes, mtuBytes) : mtuBytes;
  }

  /** True: the larger MTU is worth another try, and is now in force. */
  maybeRaise(nowUs: Micros): boolean {
    if (this.mtuBytes >= this.#linkMtuBytes || this.#isSuspecting) return false;
    if (nowUs - this.#loweredUs < RAISE_AFTER_US) return false;
    this.mtuBytes = this.#linkMtuBytes;
    this.#strikes = 0;
    return true;
  }

  /** A retransmission timeout; `isFullSize`: the earliest outstanding data fills a segment. True: MTU lowered on trial. */
  onRto(nowUs: Micros, isFullSize: boolean): boolean {
    if (!isFullSize) return false;
    if (++this.#fullSizeRtos < SUSPECT_AFTER_RTOS) return false;
    const next = PLATEAUS.find((mtu) => mtu < this.mtuBytes && mtu >= this.minMtuBytes);
    if (next === undefined) return false;
    this.#fullSizeRtos = 0;
    this.#isSuspecting = true;
    this.mtuBytes = next;
    this.#loweredUs = nowUs;
    return true;
  }

  /** SND.UNA advanced. True: the MTU was put back, because what stalled was perhaps only the path. */
  onProgress(nowUs: Micros, ackedBytes: number): boolean {
    this.#fullSizeRtos = 0;
    if (!this.#isSuspecting) {
      this.#bytesSinceRestored += ackedBytes;
      if (this.#bytesSinceRestored > ACQUIT_AFTER_BYTES) this.#strikes = 0;
      return false;
    }
    this.#isSuspecting = false;
    this.#loweredUs = nowUs;
    this.#bytesSinceRestored = 0;
    if (++this.#strikes >= CONFIRM_AFTER) return false;
    this.mtuBytes = this.#linkMtuBytes;
    return true;
  }
}
