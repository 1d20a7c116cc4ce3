/** Readiness of a descriptor on Node's own loop, and the one-shot microsecond timer. One callback per event. */
import { type Micros, NEVER } from '../core/base/time.js';
import { addon, check, type PollHandle } from './addon.js';

export const READABLE = 1;
export const WRITABLE = 2;

/** The monotonic clock of the whole program, microseconds (CLOCK_MONOTONIC). */
export function monotonicUs(): Micros {
  return addon.monotonicUs();
}

/** Level-triggered readiness. Close the poller before its descriptor. */
export class Poller {
  readonly #handle: PollHandle;
  #events = 0;
  #isClosed = false;

  /** `onReady(events)`: READABLE | WRITABLE, or a negative errno. Starts stopped: see `watch`. */
  constructor(fd: number, onReady: (events: number) => void) {
    const handle = addon.pollOpen(fd, onReady);
    if (typeof handle === 'number') check(handle, 'poll');
    this.#handle = handle as PollHandle;
  }

  /** Sets what to wait for; 0 waits for nothing (and keeps nothing alive). */
  watch(events: number): void {
    if (events === this.#events || this.#isClosed) return;
    this.#events = events;
    check(addon.pollStart(this.#handle, events), 'poll');
  }

  /** Whether watching keeps the process alive (true at first). */
  setRef(on: boolean): void {
    addon.pollRef(this.#handle, on ? 1 : 0);
  }

  close(): void {
    this.#isClosed = true;
    addon.pollClose(this.#handle);
  }
}

/** A timerfd: absolute deadlines on the clock of `monotonicUs`, exact to microseconds where setTimeout is not to 1 ms. */
export class DeadlineTimer {
  readonly #fd: number;
  readonly #poller: Poller;
  #deadlineUs: Micros = NEVER;

  /** `onExpire` runs once per armed deadline; arm again from inside it at will. */
  constructor(onExpire: () => void) {
    this.#fd = check(addon.timerfdCreate(), 'timerfd_create');
    this.#poller = new Poller(this.#fd, () => {
      // Setting a timerfd clears its expiry, so no read is needed before the next wait.
      addon.timerfdSet(this.#fd, 0);
      this.#deadlineUs = NEVER;
      onExpire();
    });
    this.#poller.watch(READABLE);
  }

  /** Replaces the deadline; NEVER disarms, the past fires at once. */
  set(deadlineUs: Micros): void {
    if (deadlineUs === this.#deadlineUs) return;
    this.#deadlineUs = deadlineUs;
    check(addon.timerfdSet(this.#fd, deadlineUs === NEVER ? 0 : Math.max(1, Math.floor(deadlineUs))), 'timerfd');
  }

  /** Whether the timer keeps the process alive (true at first, armed or not). */
  setRef(on: boolean): void {
    this.#poller.setRef(on);
  }

  close(): void {
    this.#poller.close();
    addon.close(this.#fd);
  }
}
