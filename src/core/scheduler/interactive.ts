/**
 * Lowest delay: the quickest path takes everything. A slower one gets bytes only
 *  1. when the quickest is stalled (as with every scheduler) or in doubt: mptcp/doubts.ts then also copies what the doubted
 *     path has outstanding; or
 *  2. when the quickest is so full that bytes arrive sooner over the slower one.
 * Between paths alike it stays with the one that it has, since each change may reorder.
 */
import { arrivalUs, isEligible, mustUseBackups } from './paths.js';
import type { PathSnapshot, Scheduler, SchedulerInput } from './scheduler.js';

/** Another path is the quicker one if it needs less than this share of the current one's RTT. */
const BETTER = 0.85;

export class Interactive implements Scheduler {
  readonly name = 'interactive';
  readonly copiesOnDoubt = true;
  /** Id of the path in use, -1: none yet. */
  #current = -1;

  select(input: SchedulerInput): number {
    const isBackup = mustUseBackups(input);
    const quick = this.#quickest(input, isBackup);
    if (quick === null) return -1;
    this.#current = quick.id;
    if (quick.availableBytes > 0) return quick.index;
    let best = -1;
    let bestUs = arrivalUs(input.nowUs, quick, input.pendingBytes);
    for (const path of input.paths) {
      if (path === quick || path.isBackup !== isBackup || !isEligible(path)) continue;
      if (path.availableBytes <= 0 || (path.isDoubted && !quick.isDoubted)) continue;
      const doneUs = arrivalUs(input.nowUs, path, path.mssBytes) + path.rttVarUs;
      if (doneUs >= bestUs) continue;
      best = path.index;
      bestUs = doneUs;
    }
    return best;
  }

  /** Of the paths without doubt; if all are doubted, of those. Room or not. */
  #quickest(input: SchedulerInput, isBackup: boolean): PathSnapshot | null {
    let best: PathSnapshot | null = null;
    let bestUs = 0;
    for (const path of input.paths) {
      if (path.isBackup !== isBackup || !isEligible(path)) continue;
      if (best !== null && path.isDoubted && !best.isDoubted) continue;
      const rttUs =
        (path.srttUs > 0 ? path.srttUs : Number.MAX_SAFE_INTEGER) * (path.id === this.#current ? BETTER : 1);
      if (best !== null && best.isDoubted === path.isDoubted && rttUs >= bestUs) continue;
      best = path;
      bestUs = rttUs;
    }
    return best;
  }
}
