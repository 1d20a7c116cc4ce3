/**
 * BLEST (Ferlin et al., IFIP Networking 2016): when the quickest path is full, a slower one is used only if the send
 * window has room for all that the quickest could send until the slow bytes are acknowledged.
 */
import { US_PER_S } from '../base/time.js';
import { carriedBytesPerS, quickest } from './paths.js';
import type { Scheduler, SchedulerInput } from './scheduler.js';

export class Blest implements Scheduler {
  readonly name = 'blest';

  select(input: SchedulerInput): number {
    const slowAt = quickest(input, true);
    if (slowAt < 0) return -1;
    const slow = input.paths[slowAt]!;
    const quick = input.paths[quickest(input, false)]!;
    if (slow === quick) return slow.index;
    const meanwhileBytes = (carriedBytesPerS(quick) * slow.srttUs) / US_PER_S;
    return meanwhileBytes + slow.mssBytes > input.windowBytes + quick.inFlightBytes ? -1 : slow.index;
  }
}
