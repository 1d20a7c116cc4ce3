/**
 * BLEST (Ferlin et al., IFIP Networking 2016): when the quickest path is full, a slower one is used only if the send
 * window has room for all that the quickest could send until the slow bytes are acknowledged.
 */
import { blockedBytes, quickest } from './paths.js';
import type { Scheduler, SchedulerInput } from './scheduler.js';

export class Blest implements Scheduler {
  readonly name = 'blest';

  select(input: SchedulerInput): number {
    const slowAt = quickest(input, true);
    if (slowAt < 0) return -1;
    const slow = input.paths[slowAt]!;
    const quick = input.paths[quickest(input, false)]!;
    if (slow === quick) return slow.index;
    return blockedBytes(quick, slow) + slow.mssBytes > input.windowBytes ? -1 : slow.index;
  }
}
