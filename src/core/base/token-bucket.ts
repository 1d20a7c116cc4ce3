/** A rate limit: so many at once, and so many per second in the long run. */
import { type Micros, US_PER_S } from './time.js';

export class TokenBucket {
  #tokens: number;
  #updatedUs: Micros = 0;

  constructor(
    private readonly perSecond: number,
    private readonly burst = perSecond,
  ) {
    this.#tokens = burst;
  }

  /** True: one may be had now, and is taken. */
  take(nowUs: Micros): boolean {
    this.#tokens = Math.min(this.burst, this.#tokens + ((nowUs - this.#updatedUs) * this.perSecond) / US_PER_S);
    this.#updatedUs = nowUs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
