/**
 * The clock of path probes: while the owner suspects the path dead, one segment every interval, and nothing else but ACKs
 * (DESIGN 3.4). It stands in for the RTO and its back-off, which would ask ever more seldom.
 */
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';

export class PathProbe {
  /** A probe leaves at the next transmit. */
  isDue = false;
  #intervalUs: Micros = 0;
  #nextUs: Micros = NEVER;

  get isOn(): boolean {
    return this.#intervalUs > 0;
  }

  /** NEVER while off. */
  get deadlineUs(): Micros {
    return this.#nextUs;
  }

  /** The next probe comes `us` after the last one, the first `us` after what was last sent; 0 ends it. */
  setInterval(us: Micros, lastSentUs: Micros): void {
    if (us > 0) this.#nextUs = (this.isOn ? this.#nextUs - this.#intervalUs : lastSentUs) + us;
    else this.#nextUs = NEVER;
    this.#intervalUs = us;
  }

  onTimer(nowUs: Micros): void {
    if (nowUs < this.#nextUs) return;
    this.isDue = true;
    this.#nextUs = nowUs + this.#intervalUs;
  }

  /** Asks at once, whether it is on or not. */
  kick(nowUs: Micros): void {
    this.isDue = true;
    if (this.isOn) this.#nextUs = nowUs + this.#intervalUs;
  }
}
