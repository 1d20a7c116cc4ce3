/**
 * BLEST (Ferlin et al., IFIP Networking 2016): when the quickest path is full, a slower one is used only if the send
 * window has room for all that the quickest could send until the slow bytes are acknowledged:
 *
 *   wait if  lambda X > |M| - MSS_s (inflight_s + 1),   X = MSS_f (CWND_f + (rtts - 1) / 2) rtts,   rtts = RTT_s / RTT_f
 *
 * For CWND_f stands what the path carries in an RTT: the same for a loss-based controller, while BBR's window is twice that.
 * lambda corrects X: the window blocked us although we had thought it would not, so X was too small; and back again.
 */
import type { Micros } from '../base/time.js';
import { US_PER_S } from '../base/time.js';
import { carriedBytesPerS, quickest } from './paths.js';
import type { PathSnapshot, Scheduler, SchedulerInput } from './scheduler.js';

// The paper leaves the step open.
const LAMBDA_STEP = 0.1;
const LAMBDA_MAX = 2;

export class Blest implements Scheduler {
  readonly name = 'blest';
  #lambda = 1;
  #judgedUs: Micros = 0;

  /** The correction of X, 1 to 2. */
  get lambda(): number {
    return this.#lambda;
  }

  select(input: SchedulerInput): number {
    const slowAt = quickest(input, true);
    if (slowAt < 0) return -1;
    const slow = input.paths[slowAt]!;
    const quick = input.paths[quickest(input, false)]!;
    if (slow === quick) return slow.index;
    this.#judge(input, slow.srttUs);
    const meanwhileBytes = this.#lambda * sendableMeanwhileBytes(quick, slow.srttUs);
    return meanwhileBytes + slow.mssBytes > input.windowBytes + quick.inFlightBytes ? -1 : slow.index;
  }

  /** Once per RTT of the slow path: was the window full since? */
  #judge({ nowUs, windowFullUs }: SchedulerInput, slowRttUs: Micros): void {
    if (nowUs - this.#judgedUs < slowRttUs) return;
    const wasBlocked = windowFullUs > this.#judgedUs;
    this.#judgedUs = nowUs;
    this.#lambda = wasBlocked
      ? Math.min(LAMBDA_MAX, this.#lambda + LAMBDA_STEP)
      : Math.max(1, this.#lambda - LAMBDA_STEP);
  }
}

/** X: the window grows by a segment each round trip. */
function sendableMeanwhileBytes(quick: PathSnapshot, durationUs: Micros): number {
  const rounds = quick.srttUs > 0 ? durationUs / quick.srttUs : 1;
  const perRoundBytes = (carriedBytesPerS(quick) * quick.srttUs) / US_PER_S;
  return (perRoundBytes + (Math.max(0, rounds - 1) * quick.mssBytes) / 2) * rounds;
}
