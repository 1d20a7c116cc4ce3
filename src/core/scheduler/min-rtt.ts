/** The path with the lowest RTT that has room; backups only when nothing else is usable. Never waits for a better one. */
import { quickest } from './paths.js';
import type { Scheduler, SchedulerInput } from './scheduler.js';

export class MinRtt implements Scheduler {
  readonly name = 'min-rtt';

  select(input: SchedulerInput): number {
    const at = quickest(input, true);
    return at < 0 ? -1 : input.paths[at]!.index;
  }
}
