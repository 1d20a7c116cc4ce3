/**
 * ECF, earliest completion first (Lim et al., CoNEXT 2017): when the quickest path is full, a slower one is used only if
 * what is pending would not be finished sooner by waiting for the quickest. Sees no further than `pendingBytes`.
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

    const marginUs = Math.max(slow.rttVarUs, quick.rttVarUs);
    const quickRounds = 1 + input.pendingBytes / Math.max(quick.cwndBytes, quick.mssBytes);
    const slowRounds = Math.max(1, input.pendingBytes / Math.max(slow.cwndBytes, slow.mssBytes));
    const patience = this.#isWaiting ? 1 + BETA : 1;
    const isSoonerByWaiting =
      quickRounds * quick.srttUs < patience * (slow.srttUs + marginUs) &&
      slowRounds * slow.srttUs >= 2 * quick.srttUs + marginUs;
    this.#isWaiting = isSoonerByWaiting;
    return isSoonerByWaiting ? -1 : slow.index;
  }
}
