/**
 * Notices that this process did not run for a while. CLOCK_MONOTONIC stands still while the host sleeps and CLOCK_BOOTTIME
 * does not, so what the one gains on the other was slept; a look that comes much too late means that the process was stopped
 * (SIGSTOP, a paused virtual machine, a starved host). After either, nothing that was known of the network can be trusted.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import type { Micros } from '../core/base/time.js';
import { monotonicUs } from '../native/index.js';

export const LOOK_MS = 250;
/** Less is not worth a probe of every path: the transport's own timers see to it. */
export const SLEPT_AT_LEAST_US = 1_000_000;
export const STOPPED_AT_LEAST_US = 5_000_000;

export interface Clocks {
  /** Stands still while the host sleeps. */
  monotonicUs(): Micros;
  /** Does not. */
  boottimeUs(): Micros;
}

export interface Pause {
  /** The host slept this long. */
  readonly sleptUs: Micros;
  /** The host ran, but not this process. */
  readonly stoppedUs: Micros;
}

export class PauseWatch {
  #lastUs: Micros;
  #lastSleptUs: Micros;
  readonly #timer: NodeJS.Timeout | null;

  /** `lookMs` 0: whoever made it calls `look`. */
  constructor(
    private readonly clocks: Clocks,
    private readonly onPause: (pause: Pause) => void,
    lookMs: number = LOOK_MS,
  ) {
    this.#lastUs = clocks.monotonicUs();
    this.#lastSleptUs = clocks.boottimeUs() - this.#lastUs;
    this.#timer = lookMs === 0 ? null : setInterval(() => this.look(), lookMs);
  }

  look(): void {
    const nowUs = this.clocks.monotonicUs();
    const sleptUs = this.clocks.boottimeUs() - nowUs;
    const pause = { sleptUs: sleptUs - this.#lastSleptUs, stoppedUs: nowUs - this.#lastUs };
    this.#lastUs = nowUs;
    this.#lastSleptUs = sleptUs;
    const isPause = pause.sleptUs >= SLEPT_AT_LEAST_US || pause.stoppedUs >= STOPPED_AT_LEAST_US;
    if (isPause) this.onPause({ sleptUs: Math.max(0, pause.sleptUs), stoppedUs: pause.stoppedUs });
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }
}

/** "slept for 620 s", "did not run for 21 s". */
export function pauseText({ sleptUs, stoppedUs }: Pause): string {
  const seconds = (us: Micros) => `${Math.round(us / 1e6)} s`;
  return sleptUs >= SLEPT_AT_LEAST_US ? `slept for ${seconds(sleptUs)}` : `did not run for ${seconds(stoppedUs)}`;
}

/** The host's clocks. CLOCK_BOOTTIME comes from /proc/uptime, to 10 ms; without /proc no sleep is noticed. */
export class HostClocks implements Clocks {
  readonly #room = Buffer.alloc(64);
  #fd: number | null = openUptime();

  monotonicUs(): Micros {
    return monotonicUs();
  }

  boottimeUs(): Micros {
    if (this.#fd === null) return monotonicUs();
    const length = readSync(this.#fd, this.#room, 0, this.#room.length, 0);
    return Math.round(Number.parseFloat(this.#room.toString('latin1', 0, length)) * 1e6);
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }
}

function openUptime(): number | null {
  try {
    return openSync('/proc/uptime', 'r');
  } catch {
    return null;
  }
}
