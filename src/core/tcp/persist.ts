/** The persist timer: how often a shut window is probed, backed off like the RTO, as long as it is shut (RFC 9293 3.8.6.1). */
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import type { RttEstimator } from './rtt.js';

export class PersistTimer {
  /** A window probe leaves at the next transmit. */
  isDue = false;
  deadlineUs: Micros = NEVER;
  /** When the window was found shut; NEVER while it is not. */
  sinceUs: Micros = NEVER;
  #expiries = 0;

  get isArmed(): boolean {
    return this.deadlineUs !== NEVER;
  }

  /** `isBlocked`: nothing is outstanding, and only the window keeps it so. */
  update(nowUs: Micros, isBlocked: boolean, rtt: RttEstimator): void {
    if (!isBlocked) {
      this.#clear();
    } else if (!this.isArmed) {
      this.deadlineUs = nowUs + rtt.backedOffUs(this.#expiries);
      this.sinceUs = nowUs;
    }
  }

  onTimer(nowUs: Micros, rtt: RttEstimator): void {
    if (nowUs < this.deadlineUs) return;
    this.isDue = true;
    this.#expiries++;
    this.deadlineUs = nowUs + rtt.backedOffUs(this.#expiries);
  }

  forgetBackOff(): void {
    this.#expiries = 0;
  }

  #clear(): void {
    this.deadlineUs = NEVER;
    this.sinceUs = NEVER;
    this.#expiries = 0;
    this.isDue = false;
  }
}
