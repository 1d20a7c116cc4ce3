/**
 * The tunnel's default: never worse than the best path alone, close to the sum when one flow needs it.
 *
 * The quickest path takes whatever it can. When it is full, bytes go to a slower path only
 *  1. at no cost: they arrive there before the quickest path would have carried all that is pending; or
 *  2. for throughput: the quickest path has been full for as long as the slow one would delay delivery (so the demand is
 *     not a burst that fits it), the slow one adds enough rate for that delay, and the send window has room for what the
 *     quickest sends meanwhile (BLEST).
 * Rule 2 is needed because `pendingBytes` shows little of the demand: the tunnel keeps its backlog in FQ-CoDel and pulls a
 * few milliseconds' worth, for which ECF alone would always rather wait. That a path must add enough rate is what keeps
 * 50 Mbit/s 5 ms + 5 Mbit/s 150 ms from paying thirty times the delay for a tenth of the rate. What an idle path would
 * add is not known, so a path that seems to add too little gets a trial before it is passed over, and later another.
 */
import type { Micros } from '../base/time.js';
import { US_PER_S } from '../base/time.js';
import { arrivalUs, blockedBytes, carriedBytesPerS, isEligible, mustUseBackups, quickest } from './paths.js';
import type { PathSnapshot, Scheduler, SchedulerInput } from './scheduler.js';

/** Extra one-way delay that doubling the rate would be worth; a path that adds a tenth may cost a tenth of it. */
const WORTH_US_PER_RATE_RATIO = 400_000;
/** A path counts as continuously full when it is seen full at least this often, in its own RTTs … */
const MAX_FULL_GAP_RTTS = 1;
/** … and never more often than this, for RTTs below a timer's accuracy. */
const MIN_FULL_GAP_US = 5_000;
/** Waiting for the pacer with less than this many BDPs in flight is only the pacer's grain, not a full path. */
const FULL_BDPS = 0.75;
/** Room with less than this in flight shows that the demand fits. */
const IDLE_BDPS = 0.5;
/** A trial is long enough for slow start from ten segments and for the rate sample after it. */
const TRIAL_RTTS = 16;
const MIN_TRIAL_US = 1_000_000;
/** How long a path that failed its trial is passed over by rule 2. */
const PASSED_OVER_US = 60_000_000;

/** What is remembered of a path, by its index: one small object per subflow of the connection. */
class PathMemory {
  fullSinceUs: Micros = 0;
  lastFullUs: Micros = Number.NEGATIVE_INFINITY;
  trialSinceUs: Micros = 0;
  lastTrialUs: Micros = Number.NEGATIVE_INFINITY;
  passedOverUntilUs: Micros = 0;
}

export class Adaptive implements Scheduler {
  readonly name = 'adaptive';
  readonly #memory: PathMemory[] = [];

  select(input: SchedulerInput): number {
    const quickAt = quickest(input, false);
    if (quickAt < 0) return -1;
    const quick = input.paths[quickAt]!;
    if (quick.availableBytes > 0) {
      if (quick.inFlightBytes < IDLE_BDPS * bdpBytes(quick))
        this.#memoryOf(quick).lastFullUs = Number.NEGATIVE_INFINITY;
      return quick.index;
    }
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

  #memoryOf(path: PathSnapshot): PathMemory {
    return (this.#memory[path.index] ??= new PathMemory());
  }

  #noteFull(nowUs: Micros, path: PathSnapshot): void {
    const isWindowFull = path.inFlightBytes + path.mssBytes >= path.cwndBytes;
    if (!isWindowFull && path.inFlightBytes < FULL_BDPS * bdpBytes(path)) return;
    const memory = this.#memoryOf(path);
    const gapUs = Math.max(MAX_FULL_GAP_RTTS * path.srttUs, MIN_FULL_GAP_US);
    if (nowUs - memory.lastFullUs > gapUs) memory.fullSinceUs = nowUs;
    memory.lastFullUs = nowUs;
  }

  /** Rule 2. */
  #isWorthIt(input: SchedulerInput, quick: PathSnapshot, slow: PathSnapshot): boolean {
    const { nowUs } = input;
    const extraUs = Math.max(0, slow.srttUs - quick.srttUs) / 2;
    const { fullSinceUs, lastFullUs } = this.#memoryOf(quick);
    if (lastFullUs !== nowUs || nowUs - fullSinceUs < extraUs) return false;
    if (blockedBytes(quick, slow) + slow.mssBytes > input.windowBytes) return false;
    const quickRate = carriedBytesPerS(quick);
    if (extraUs * quickRate <= WORTH_US_PER_RATE_RATIO * carriedBytesPerS(slow)) return true;
    return this.#mayTry(nowUs, slow);
  }

  #mayTry(nowUs: Micros, path: PathSnapshot): boolean {
    const memory = this.#memoryOf(path);
    if (nowUs < memory.passedOverUntilUs) return false;
    if (nowUs - memory.lastTrialUs > MIN_TRIAL_US) memory.trialSinceUs = nowUs;
    memory.lastTrialUs = nowUs;
    if (nowUs - memory.trialSinceUs < Math.max(TRIAL_RTTS * path.srttUs, MIN_TRIAL_US)) return true;
    memory.passedOverUntilUs = nowUs + PASSED_OVER_US;
    return false;
  }
}

/** What the path holds when it is just full; 0 as long as its rate is not known. */
function bdpBytes(path: PathSnapshot): number {
  return (path.rateBytesPerS * path.minRttUs) / US_PER_S;
}
