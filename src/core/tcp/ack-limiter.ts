/** Rate limit for challenge ACKs (RFC 5961 section 7): a token bucket that holds one second's worth. */
import type { Micros } from '../base/time.js';
import { US_PER_S } from '../base/time.js';

export class AckLimiter {
  #tokens: number;
  #updatedUs: Micros = 0;

  constructor(private readonly perSecond: number) {
    this.#tokens = perSecond;
  }

  /** True: one may be sent, and is counted. */
  take(nowUs: Micros): boolean {
    this.#tokens = Math.min(this.perSecond, this.#tokens + ((nowUs - this.#updatedUs) * this.perSecond) / US_PER_S);
    this.#updatedUs = nowUs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
