/** Keepalives, off by default: probes of an idle connection, given up after so many without an answer (RFC 9293 3.8.4). */
import type { Micros } from '../base/time.js';
import { NEVER } from '../base/time.js';
import type { SubflowConfig } from './config.js';

export class Keepalive {
  /** A probe leaves at the next poll. */
  isDue = false;
  isOn: boolean;
  /** Idle time before the first probe. */
  idleUs: Micros;
  #unanswered = 0;

  constructor(private readonly config: SubflowConfig) {
    this.isOn = config.keepalive;
    this.idleUs = config.keepaliveIdleUs;
  }

  /** `isIdle`: nothing is outstanding and nobody else probes. */
  deadlineUs(lastReceivedUs: Micros, isIdle: boolean): Micros {
    if (!this.isOn || !isIdle) return NEVER;
    return lastReceivedUs + this.idleUs + this.#unanswered * this.config.keepaliveIntervalUs;
  }

  /** Probes since anything was heard; the last of them may still be answered. */
  get unanswered(): number {
    return this.#unanswered;
  }

  onReceived(): void {
    this.#unanswered = 0;
  }

  /** The deadline has passed. False: there have been enough probes. */
  onTimer(): boolean {
    if (this.#unanswered >= this.config.keepaliveProbes) return false;
    this.#unanswered++;
    this.isDue = true;
    return true;
  }
}
