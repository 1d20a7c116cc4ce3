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
  #resume: NodeJS.Timeout | null = null;

  /** `onReady(events)`: READABLE | WRITABLE, or a negative errno. Starts stopped: see `watch`. */
  constructor(fd: number, onReady: (events: number) => void) {
    const handle = addon.pollOpen(fd, (ready) => {
      if (ready < 0) this.#resumeLater();
      onReady(ready);
    });
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
    if (this.#resume !== null) clearTimeout(this.#resume);
    addon.pollClose(this.#handle);
  }

  /**
   * libuv stops polling after an error condition, and a packet socket has one (ENETDOWN) whenever its interface goes
   * down; it works again when the interface is back. The pause keeps a lasting error from becoming a busy loop.
   */
  #resumeLater(): void {
    this.#resume ??= setTimeout(() => {
      this.#resume = null;
      if (this.#events !== 0) check(addon.pollStart(this.#handle, this.#events), 'poll');
    }, ERROR_PAUSE_MS).unref();
  }
}

const ERROR_PAUSE_MS = 50;

/**
 * A timerfd: absolute deadlines on the clock of `monotonicUs`, exact to microseconds where setTimeout is not to 1 ms.
 * Re-armed lazily: a deadline that moves away (every segment moves some) costs nothing until the earlier one has passed.
 */
export class DeadlineTimer {
  readonly #fd: number;
  readonly #poller: Poller;
  readonly #onExpire: () => void;
  #deadlineUs: Micros = NEVER;
  /** What the kernel has; at most `#deadlineUs`. */
  #armedUs: Micros = NEVER;

  /** `onExpire` runs once per deadline, not before it; set another from inside it at will. */
  constructor(onExpire: () => void) {
    this.#onExpire = onExpire;
    this.#fd = check(addon.timerfdCreate(), 'timerfd_create');
    this.#poller = new Poller(this.#fd, () => this.#onReady());
    this.#poller.watch(READABLE);
  }

  /** Replaces the deadline; NEVER disarms, the past fires at once. */
  set(deadlineUs: Micros): void {
    this.#deadlineUs = deadlineUs;
    if (deadlineUs < this.#armedUs) this.#arm(deadlineUs);
  }

  /** Whether the timer keeps the process alive (true at first, armed or not). */
  setRef(on: boolean): void {
    this.#poller.setRef(on);
  }

  close(): void {
    this.#poller.close();
    addon.close(this.#fd);
  }

  #onReady(): void {
    const dueUs = this.#deadlineUs;
    if (dueUs > monotonicUs()) {
      this.#arm(dueUs);
      return;
    }
    // Setting a timerfd clears its expiry, so no read is needed before the next wait.
    this.#arm(NEVER);
    this.#deadlineUs = NEVER;
    this.#onExpire();
  }

  #arm(deadlineUs: Micros): void {
    this.#armedUs = deadlineUs;
    check(addon.timerfdSet(this.#fd, deadlineUs === NEVER ? 0 : Math.max(1, Math.ceil(deadlineUs))), 'timerfd');
  }
}
