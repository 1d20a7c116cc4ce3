/** Every path that has room in its turn: for measurements and for links that are alike. */
import { isEligible, mustUseBackups } from './paths.js';
import type { Scheduler, SchedulerInput } from './scheduler.js';

export class RoundRobin implements Scheduler {
  readonly name = 'round-robin';
  /** `index` of the path that had the last turn. */
  #last = -1;

  select(input: SchedulerInput): number {
    const isBackup = mustUseBackups(input);
    let next = -1; // lowest index after the last one
    let first = -1; // lowest index of all
    for (const path of input.paths) {
      if (path.isBackup !== isBackup || !isEligible(path) || path.availableBytes <= 0) continue;
      if (first < 0 || path.index < first) first = path.index;
      if (path.index > this.#last && (next < 0 || path.index < next)) next = path.index;
    }
    const chosen = next >= 0 ? next : first;
    if (chosen >= 0) this.#last = chosen;
    return chosen;
  }
}
