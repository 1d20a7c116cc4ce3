/**
 * ECF, earliest completion first (Lim et al., CoNEXT 2017, algorithm 1): when the quickest path f is full, a slower one s is
 * used only if what is pending, k, would not be finished sooner by waiting for f. With n = 1 + k / CWND_f and
 * delta = max(sigma_f, sigma_s), it waits if
 *
 *   n RTT_f < (1 + waiting beta) (RTT_s + delta)   and   k / CWND_s RTT_s >= 2 RTT_f + delta
 *
 * Sees no further than `pendingBytes`.
 */
import { quickest } from './paths.js';
import type { Scheduler, SchedulerInput } from './scheduler.js';

/** Hysteresis: having begun to wait, the slow path must be this much better to stop. */
const BETA = 0.25;

export class Ecf implements Scheduler {
  readonly name = 'ecf';
  #isWaiting = false;

  select(input: SchedulerInput): number {
    const slowAt = quickest(input, true);
    if (slowAt < 0) return -1;
    const slow = input.paths[slowAt]!;
    const quick = input.paths[quickest(input, false)]!;
    if (slow === quick) return slow.index;

    const deltaUs = Math.max(slow.rttVarUs, quick.rttVarUs);
    const quickRounds = 1 + input.pendingBytes / Math.max(quick.cwndBytes, quick.mssBytes);
    // Less than a window takes a round trip all the same, as in the authors' own implementation.
    const slowRounds = Math.max(1, input.pendingBytes / Math.max(slow.cwndBytes, slow.mssBytes));
    const patience = this.#isWaiting ? 1 + BETA : 1;
    if (quickRounds * quick.srttUs >= patience * (slow.srttUs + deltaUs)) {
      this.#isWaiting = false;
      return slow.index;
    }
    // The slow path is soon done with it: no reason to wait, nor (as in the paper) to give up waiting.
    if (slowRounds * slow.srttUs < 2 * quick.srttUs + deltaUs) return slow.index;
    this.#isWaiting = true;
    return -1;
  }
}
