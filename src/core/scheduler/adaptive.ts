/**
 * The tunnel's default: never worse than the best path alone, close to the sum when one flow needs it.
 *
 * The quickest path takes whatever it can. When it is full, bytes go to a slower path only
 *  1. at no cost: they arrive there before the quickest path would have carried all that is pending; or
 *  2. for throughput: the quickest path has been full for as long as the slow one would delay delivery (so the demand is
 *     not a burst that fits it), the slow one adds enough rate for that delay, and the send window has room for what the
 *     quickest sends meanwhile (BLEST).
 * Rule 2 is needed because `pendingBytes` shows little of the demand: the tunnel keeps its backlog in FQ-CoDel and pulls a
 * few milliseconds' worth, for which ECF alone would always rather wait. Its second condition is what keeps
 * 50 Mbit/s 5 ms + 5 Mbit/s 150 ms from paying thirty times the delay for a tenth of the rate.
 */
import type { Micros } from '../base/time.js';
import { arrivalUs, blockedBytes, carriedBytesPerS, isEligible, mustUseBackups, quickest } from './paths.js';
import type { PathSnapshot, Scheduler, SchedulerInput } from './scheduler.js';

/** Extra one-way delay that doubling the rate would be worth; a path that adds a tenth may cost a tenth of it. */
const WORTH_US_PER_RATE_RATIO = 400_000;
/** The quickest path counts as continuously full when it is seen full at least this often, in its own RTTs … */
const MAX_FULL_GAP_RTTS = 2;
/** … and never less often than this, for RTTs below a timer's accuracy. */
const MIN_FULL_GAP_US = 5_000;

export class Adaptive implements Scheduler {
  readonly name = 'adaptive';
  #quickIndex = -1;
  #fullSinceUs: Micros = 0;
  #lastFullUs: Micros = Number.NEGATIVE_INFINITY;

  select(input: SchedulerInput): number {
    const quickAt = quickest(input, false);
    if (quickAt < 0) return -1;
    const quick = input.paths[quickAt]!;
    if (quick.availableBytes > 0) return quick.index;

    this.#noteFull(input.nowUs, quick);
    const isBackup = mustUseBackups(input);
    const quickDoneUs = arrivalUs(input.nowUs, quick, input.pendingBytes);
    let best = -1;
    let bestUs = Number.POSITIVE_INFINITY;
    for (const path of input.paths) {
      if (path === quick || path.isBackup !== isBackup || !isEligible(path) || path.availableBytes <= 0) continue;
      const doneUs = arrivalUs(input.nowUs, path, path.mssBytes);
      if (doneUs >= bestUs) continue;
      if (doneUs + path.rttVarUs > quickDoneUs && !this.#isWorthIt(input, quick, path)) continue;
      best = path.index;
      bestUs = doneUs;
    }
    return best;
  }

  #noteFull(nowUs: Micros, quick: PathSnapshot): void {
    const gapUs = Math.max(MAX_FULL_GAP_RTTS * quick.srttUs, MIN_FULL_GAP_US);
    if (quick.index !== this.#quickIndex || nowUs - this.#lastFullUs > gapUs) this.#fullSinceUs = nowUs;
    this.#quickIndex = quick.index;
    this.#lastFullUs = nowUs;
  }

  #isWorthIt(input: SchedulerInput, quick: PathSnapshot, slow: PathSnapshot): boolean {
    const extraUs = Math.max(0, slow.srttUs - quick.srttUs) / 2;
    if (input.nowUs - this.#fullSinceUs < extraUs) return false;
    const quickRate = carriedBytesPerS(quick);
    // Nothing is known of the quick path (no RTT yet): its rate cannot be what decides.
    if (quickRate > 0 && extraUs > (WORTH_US_PER_RATE_RATIO * carriedBytesPerS(slow)) / quickRate) return false;
    return blockedBytes(quick, slow) + slow.mssBytes <= input.windowBytes;
  }
}
