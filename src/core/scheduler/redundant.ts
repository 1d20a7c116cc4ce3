/**
 * Copies of all bytes on every usable path; the first to arrive wins. For what cannot wait for a retransmission or a
 * switch of paths. A path that is behind goes on from the first byte that no path has brought yet (mptcp/copies.ts), so
 * that a slow one neither holds back a quick one nor carries what is long delivered. The rate is that of the best path.
 */
import { isEligible, mustUseBackups, quickest } from './paths.js';
import type { PathSnapshot, Scheduler, SchedulerInput } from './scheduler.js';

export class Redundant implements Scheduler {
  readonly name = 'redundant';

  /** For bytes that must go once more (data-level retransmission), and while there is one subflow. */
  select(input: SchedulerInput): number {
    const at = quickest(input, true);
    return at < 0 ? -1 : input.paths[at]!.index;
  }

  carries(input: SchedulerInput, path: PathSnapshot): boolean {
    return path.availableBytes > 0 && isEligible(path) && path.isBackup === mustUseBackups(input);
  }
}
