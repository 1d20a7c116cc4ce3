/**
 * Connections to the relay that have finished their handshakes (TCP, TLS, the pin check) before anybody asks for them. How
 * many are kept follows the rate of new flows and the time that a handshake takes; a burst that finds too few waits in line
 * while further ones are opened, so many at a time. One that is given to a flow does not come back.
 *
 *   open → in store → given to a flow          (closed: surplus, too old, its link is gone, the relay closed it)
 */
import type { Micros } from '../../core/base/time.js';
import { DialError } from './contract.js';

/** Where no flow has come for so long, one is kept (each costs about 1 MB a day). */
const IDLE_AFTER_US = 300_000_000;
/** Opened at the same time; flows that wait in line, the next one is refused. */
export const MAX_OPENING = 24;
export const MAX_WAITING = 2_048;
/** A flow waits so long for a connection. */
const WAIT_MS = 30_000;
/** New flows are counted with this time constant; the store shrinks with the second, so that bursts in a row find it full. */
const RATE_US = 2_000_000;
const SHRINK_US = 20_000_000;
/** Stored so many handshakes' worth of new flows. */
const HEADROOM = 2;
/** Replaced at this age, well before the server gives one up (server-sessions.ts: 20 minutes without a request). */
export const MAX_AGE_US = 600_000_000;
const LOOK_MS = 1_000;
/** After a failure: doubling, the upper half of it at random. */
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5_000;

/** A connection that waits for a flow. */
export interface Warm {
  readonly linkId: number;
  /** False: it would not do (now), although it has not been closed. */
  readonly isUsable: boolean;
  /** Told once when it is closed, by whomever. */
  onGone: () => void;
  close(): void;
}

export interface RelayPoolOptions<T extends Warm> {
  /** Kept in store at least (while flows come) and at most. */
  readonly min: number;
  readonly max: number;
  /** Null: there is no way to the relay now. Rejects where an attempt failed. */
  open(signal: AbortSignal): Promise<T | null>;
  nowUs(): Micros;
  /** Calls `fn` in so many milliseconds; the answer cancels it. */
  after(ms: number, fn: () => void): () => void;
  /** Uniform in [0, 1). */
  random(): number;
  /** An attempt failed. Those who wait are told if it is pointless to wait on. */
  onFailed(error: Error): { readonly isPointless: boolean };
}

interface Waiter<T> {
  readonly give: (warm: T) => void;
  readonly fail: (error: DialError) => void;
}

interface Stored<T> {
  readonly warm: T;
  readonly sinceUs: Micros;
}

export class RelayPool<T extends Warm> {
  /** Monotonic. Flows that found one in store, flows that had to wait, connections opened and failed, stored ones closed. */
  readonly counters = { ready: 0, waited: 0, opened: 0, failed: 0, surplus: 0, gone: 0, refused: 0 };
  private readonly store: Stored<T>[] = [];
  private waiting: Waiter<T>[] = [];
  private readonly opening = new Set<AbortController>();
  private flowCount = 0;
  private countedUs: Micros = 0;
  private lastFlowUs: Micros = Number.NEGATIVE_INFINITY;
  private openUs = 200_000;
  private keep = 0;
  private failures = 0;
  private stopRetry: (() => void) | null = null;
  private stopLook: (() => void) | null = null;
  private state: 'new' | 'open' | 'closed' = 'new';

  constructor(private readonly options: RelayPoolOptions<T>) {}

  /** Fills the store for the first time; without it, the first flow does. */
  start(): void {
    if (this.state !== 'new') return;
    this.state = 'open';
    this.countedUs = this.options.nowUs();
    this.lastFlowUs = this.countedUs;
    this.look();
  }

  get stored(): number {
    return this.store.length;
  }

  get waiters(): number {
    return this.waiting.length;
  }

  /** Connections wanted in store now. */
  get target(): number {
    const nowUs = this.options.nowUs();
    const { min, max } = this.options;
    if (nowUs - this.lastFlowUs >= IDLE_AFTER_US) return Math.min(1, max);
    const perUs = this.flowsNow(nowUs) / RATE_US;
    return Math.min(max, Math.max(min, Math.ceil(perUs * this.openUs * HEADROOM)));
  }

  /** A connection for one flow. Throws DialError 'unavailable'; an aborted signal ends the wait. */
  take(signal: AbortSignal): Promise<T> {
    this.start();
    const nowUs = this.options.nowUs();
    this.flowCount = this.flowsNow(nowUs) + 1;
    this.countedUs = nowUs;
    this.lastFlowUs = nowUs;
    // The newest: what is left over grows old and goes.
    for (let s = this.store.pop(); s !== undefined; s = this.store.pop()) {
      if (!s.warm.isUsable) {
        this.discard(s.warm);
        continue;
      }
      s.warm.onGone = ignore;
      this.counters.ready++;
      this.fill();
      return Promise.resolve(s.warm);
    }
    return this.wait(signal);
  }

  /** What was opened over this link, and waits, is closed; others take its place. */
  invalidate(linkId: number): void {
    for (const s of [...this.store]) if (s.warm.linkId === linkId) this.discard(s.warm);
    this.retryNow();
  }

  /** Paths have changed places: what waits on one that would not be chosen now is closed; others take its place. */
  review(): void {
    for (const { warm } of [...this.store]) if (!warm.isUsable) this.discard(warm);
    this.fill();
  }

  /** There may be a way (again): whatever was waiting for the next attempt is tried at once. */
  retryNow(): void {
    this.failures = 0;
    this.stopRetry?.();
    this.stopRetry = null;
    this.fill();
  }

  close(): void {
    this.state = 'closed';
    this.stopLook?.();
    this.stopRetry?.();
    for (const attempt of this.opening) attempt.abort();
    for (const s of this.store.splice(0)) {
      s.warm.onGone = ignore;
      s.warm.close();
    }
    this.failAll('the relay is not used any more');
  }

  private wait(signal: AbortSignal): Promise<T> {
    const unavailable = (why: string) => new DialError('unavailable', why);
    if (this.waiting.length >= MAX_WAITING) {
      this.counters.refused++;
      return Promise.reject(unavailable(`more than ${MAX_WAITING} flows wait for a connection to the relay`));
    }
    return new Promise((resolve, reject) => {
      const settle = () => {
        stopTimer();
        signal.removeEventListener('abort', onAbort);
        this.waiting = this.waiting.filter((w) => w !== waiter);
      };
      const waiter: Waiter<T> = {
        give: (warm) => {
          settle();
          this.counters.waited++;
          resolve(warm);
        },
        fail: (error) => {
          settle();
          reject(error);
        },
      };
      const onAbort = () => waiter.fail(unavailable('given up'));
      const stopTimer = this.options.after(WAIT_MS, () =>
        waiter.fail(unavailable('no connection to the relay in time')),
      );
      this.waiting.push(waiter);
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
      this.fill();
    });
  }

  /** Opens what is missing. */
  private fill(): void {
    if (this.state !== 'open' || this.stopRetry !== null) return;
    const wanted = this.waiting.length + this.target;
    while (this.store.length + this.opening.size < wanted && this.opening.size < MAX_OPENING) this.openOne();
  }

  private openOne(): void {
    const attempt = new AbortController();
    const beganUs = this.options.nowUs();
    this.opening.add(attempt);
    this.options.open(attempt.signal).then(
      (warm) => {
        this.opening.delete(attempt);
        if (warm === null) this.pause(RETRY_MAX_MS);
        else this.onOpen(warm, this.options.nowUs() - beganUs);
      },
      (error: Error) => {
        this.opening.delete(attempt);
        if (!attempt.signal.aborted) this.onFailed(error);
      },
    );
  }

  private onOpen(warm: T, tookUs: Micros): void {
    if (this.state === 'closed') {
      warm.close();
      return;
    }
    this.counters.opened++;
    this.failures = 0;
    this.openUs += (tookUs - this.openUs) / 8;
    const waiter = this.waiting[0];
    if (waiter !== undefined) waiter.give(warm);
    else {
      warm.onGone = () => this.onGone(warm);
      this.store.push({ warm, sinceUs: this.options.nowUs() });
    }
    this.fill();
  }

  private onFailed(error: Error): void {
    this.counters.failed++;
    const { isPointless } = this.options.onFailed(error);
    if (isPointless) this.failAll(error.message);
    const ceiling = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.min(16, this.failures++));
    this.pause(ceiling * (0.5 + 0.5 * this.options.random()));
  }

  private pause(ms: number): void {
    if (this.state !== 'open' || this.stopRetry !== null) return;
    this.stopRetry = this.options.after(ms, () => {
      this.stopRetry = null;
      this.fill();
    });
  }

  private onGone(warm: T): void {
    const at = this.store.findIndex((s) => s.warm === warm);
    if (at < 0) return;
    this.store.splice(at, 1);
    this.counters.gone++;
    // Not at once: a relay that closes all of them would have all of them again.
    this.pause(RETRY_MIN_MS);
  }

  private discard(warm: T): void {
    const at = this.store.findIndex((s) => s.warm === warm);
    if (at >= 0) this.store.splice(at, 1);
    warm.onGone = ignore;
    warm.close();
    this.counters.gone++;
  }

  /** Once a second: what is too old or too many goes, the oldest first. */
  private look(): void {
    this.stopLook = this.options.after(LOOK_MS, () => this.look());
    const nowUs = this.options.nowUs();
    this.keep = Math.max(this.target, this.keep * Math.exp((-LOOK_MS * 1000) / SHRINK_US));
    while (this.store.length > Math.ceil(this.keep) || this.store.some((s) => nowUs - s.sinceUs > MAX_AGE_US)) {
      const { warm } = this.store.shift()!;
      warm.onGone = ignore;
      warm.close();
      this.counters.surplus++;
    }
    this.fill();
  }

  private failAll(why: string): void {
    for (const waiter of [...this.waiting]) waiter.fail(new DialError('unavailable', why));
  }

  private flowsNow(nowUs: Micros): number {
    return this.flowCount * Math.exp((this.countedUs - nowUs) / RATE_US);
  }
}

function ignore(): void {}
