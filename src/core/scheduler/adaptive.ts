/**
 * The tunnel's default: never worse than the best path alone, close to the sum when one flow needs it.
 *
 * The quickest path takes whatever it can. When it is full, bytes go to a slower path only
 *  1. at no cost: they arrive there before the quickest path would have carried all that is pending; or
 *  2. for throughput: the quickest path has been full, short gaps aside, for as long as the slow one would delay delivery
 *     (so the demand is not a burst that fits it), the slow one adds enough rate for that delay, and the send window has room for what the
 *     quickest sends meanwhile (BLEST).
 * Rule 2 is needed because `pendingBytes` shows little of the demand: the tunnel keeps its backlog in FQ-CoDel and pulls a
 * few milliseconds' worth, for which ECF alone would always rather wait. That a path must add enough rate is what keeps
 * 50 Mbit/s 5 ms + 5 Mbit/s 150 ms from paying thirty times the delay for a tenth of the rate. What an idle path would
 * add is not known, so a path that seems to add too little is tried before it is passed over, and later again.
 *
 * `patient` is the same for a connection that carries one transfer, where nobody waits but for the whole: delay costs it a
 * tenth of that.
 */
import type { Micros } from '../base/time.js';
import { US_PER_S } from '../base/time.js';
import { arrivalUs, carriedBytesPerS, isEligible, mustUseBackups, quickest } from './paths.js';
import type { PathSnapshot, Scheduler, SchedulerInput } from './scheduler.js';

/** Extra one-way delay that doubling the rate would be worth; a path that adds a tenth may cost a tenth of it. */
const WORTH_US_PER_RATE_RATIO = 400_000;
const PATIENT_WORTH_US_PER_RATE_RATIO = 4_000_000;
/**
 * How long a path has been full is an account: it grows while the path is full and shrinks this much faster while it is
 * not, so that a sustained flow does not have to prove itself anew after every loss or lull of a few milliseconds.
 */
const FULL_DECAY = 2;
/** The account's limit: a pause of half of it makes the path new again. */
const MAX_FULL_FOR_US = 400_000;
/** A path counts as full in between when it is seen full at least this often, in its own RTTs … */
const MAX_FULL_GAP_RTTS = 1;
/** … and never more often than this, for RTTs below a timer's accuracy. */
const MIN_FULL_GAP_US = 5_000;
/** Waiting for the pacer with less than this many BDPs in flight is only the pacer's grain, not a full path. */
const FULL_BDPS = 0.75;
/** Room with less than this in flight shows that the demand fits. */
const IDLE_BDPS = 0.5;
/**
 * A path of unknown rate is tried only where that does little harm, or where quite an ordinary rate would be worth it: the
 * application inside the tunnel sees the delay while the trial lasts, and its RTO may fire for a jump of 200 ms.
 */
const HARMLESS_TRIAL_US = 50_000;
const HOPED_FOR_BYTES_PER_S = 1_250_000; // 10 Mbit/s
/**
 * A trial is long enough for slow start from ten segments and for the rate sample after it. Only rounds count in which the
 * path was seen full: one that gets a segment now and then shows nothing of what it could carry.
 */
const TRIAL_ROUNDS = 12;
const MIN_ROUND_US = 80_000;
/** Not tried for so long: the next trial begins anew. */
const TRIAL_PAUSE_US = 1_000_000;
/** Paths count with their best rate of this long: one low sample must not decide. */
const PEAK_US = 1_000_000;
/** How long a path that failed its trial is passed over by rule 2. */
const PASSED_OVER_US = 60_000_000;

/** A refusal is the path's state for so long. */
const REFUSAL_SHOWN_US = 2_000_000;
/** Paths that are remembered at most. */
const MAX_PATHS = 64;

/** What is remembered of a path, by its id: one small object per subflow of the connection. */
class PathMemory {
  peakBytesPerS = 0;
  peakUs: Micros = Number.NEGATIVE_INFINITY;
  /** FULL_DECAY's account, as of `lastFullUs`. */
  fullForUs: Micros = 0;
  lastFullUs: Micros = Number.NEGATIVE_INFINITY;
  trialRounds = 0;
  lastRoundUs: Micros = Number.NEGATIVE_INFINITY;
  lastTrialUs: Micros = Number.NEGATIVE_INFINITY;
  passedOverUntilUs: Micros = 0;
  /** When its price was found too high, and the delay that it would have added then. */
  refusedUs: Micros = Number.NEGATIVE_INFINITY;
  refusedExtraUs: Micros = 0;
}

export class Adaptive implements Scheduler {
  readonly isPatient: boolean;
  readonly #worthUs: Micros;
  readonly #memory = new Map<number, PathMemory>();

  constructor(readonly name: 'adaptive' | 'patient' = 'adaptive') {
    this.isPatient = name === 'patient';
    this.#worthUs = this.isPatient ? PATIENT_WORTH_US_PER_RATE_RATIO : WORTH_US_PER_RATE_RATIO;
  }

  select(input: SchedulerInput): number {
    const quickAt = quickest(input, false);
    if (quickAt < 0) return -1;
    const quick = input.paths[quickAt]!;
    const memory = this.#memoryOf(quick);
    notePeak(input.nowUs, quick, memory);
    if (quick.availableBytes > 0) {
      if (quick.inFlightBytes < IDLE_BDPS * bdpBytes(quick, memory)) noteNotFull(input.nowUs, memory);
      else noteFull(input.nowUs, quick, memory);
      return quick.index;
    }
    noteFull(input.nowUs, quick, memory);
    const isBackup = mustUseBackups(input);
    const quickDoneUs = arrivalUs(input.nowUs, quick, input.pendingBytes);
    let best = -1;
    let bestUs = Number.POSITIVE_INFINITY;
    for (const path of input.paths) {
      if (path === quick || path.isBackup !== isBackup || !isEligible(path)) continue;
      if (path.availableBytes <= 0) {
        noteTrialRound(input.nowUs, path, this.#memoryOf(path));
        continue;
      }
      const doneUs = arrivalUs(input.nowUs, path, path.mssBytes);
      if (doneUs >= bestUs) continue;
      if (doneUs + path.rttVarUs > quickDoneUs && !this.#isWorthIt(input, quick, path)) continue;
      best = path.index;
      bestUs = doneUs;
    }
    return best;
  }

  #memoryOf(path: PathSnapshot): PathMemory {
    let memory = this.#memory.get(path.id);
    if (memory === undefined) {
      // Ids are never used again: the oldest path is the one that is gone.
      if (this.#memory.size >= MAX_PATHS) this.#memory.delete(this.#memory.keys().next().value!);
      memory = new PathMemory();
      this.#memory.set(path.id, memory);
    }
    return memory;
  }

  /** Rule 2. */
  #isWorthIt(input: SchedulerInput, quick: PathSnapshot, slow: PathSnapshot): boolean {
    const { nowUs } = input;
    const extraUs = Math.max(0, slow.srttUs - quick.srttUs) / 2;
    const { fullForUs, lastFullUs, peakBytesPerS: quickRate } = this.#memoryOf(quick);
    if (lastFullUs !== nowUs || fullForUs < extraUs) return false;
    if (blockedBytes(quickRate, quick, slow) + slow.mssBytes > input.windowBytes) return false;
    const memory = this.#memoryOf(slow);
    notePeak(nowUs, slow, memory);
    const price = extraUs * quickRate;
    if (price <= this.#worthUs * memory.peakBytesPerS) return true;
    const isCheap = extraUs <= HARMLESS_TRIAL_US || price <= this.#worthUs * HOPED_FOR_BYTES_PER_S;
    if (isCheap && mayTry(nowUs, memory)) return true;
    memory.refusedUs = nowUs;
    memory.refusedExtraUs = extraUs;
    return false;
  }

  forget(id: number): void {
    this.#memory.delete(id);
  }

  whyNot(nowUs: Micros, id: number): string | null {
    const memory = this.#memory.get(id);
    if (memory === undefined || nowUs - memory.refusedUs > REFUSAL_SHOWN_US) return null;
    const [ms, mbit] = [memory.refusedExtraUs / 1e3, (8 * memory.peakBytesPerS) / 1e6];
    return `would add ${ms.toFixed(0)} ms of delay, too much for the ${mbit.toFixed(1)} Mbit/s seen on it`;
  }
}

function mayTry(nowUs: Micros, memory: PathMemory): boolean {
  if (nowUs < memory.passedOverUntilUs) return false;
  if (nowUs - memory.lastTrialUs > TRIAL_PAUSE_US) {
    memory.trialRounds = 0;
    memory.lastRoundUs = nowUs;
  }
  memory.lastTrialUs = nowUs;
  if (memory.trialRounds < TRIAL_ROUNDS) return true;
  memory.passedOverUntilUs = nowUs + PASSED_OVER_US;
  return false;
}

function noteTrialRound(nowUs: Micros, path: PathSnapshot, memory: PathMemory): void {
  if (nowUs - memory.lastRoundUs < Math.max(path.srttUs, MIN_ROUND_US)) return;
  memory.lastRoundUs = nowUs;
  memory.trialRounds++;
}

function notePeak(nowUs: Micros, path: PathSnapshot, memory: PathMemory): void {
  const rate = carriedBytesPerS(path);
  if (rate < memory.peakBytesPerS && nowUs - memory.peakUs <= PEAK_US) return;
  memory.peakBytesPerS = rate;
  memory.peakUs = nowUs;
}

function noteFull(nowUs: Micros, path: PathSnapshot, memory: PathMemory): void {
  const isFull = path.isHeldByLimit || path.inFlightBytes + path.mssBytes >= path.cwndBytes;
  if (!isFull && path.inFlightBytes < FULL_BDPS * bdpBytes(path, memory)) return;
  const gapUs = Math.max(MAX_FULL_GAP_RTTS * path.srttUs, MIN_FULL_GAP_US);
  const sinceUs = nowUs - memory.lastFullUs;
  if (sinceUs > gapUs) noteNotFull(nowUs, memory);
  else memory.fullForUs = Math.min(MAX_FULL_FOR_US, memory.fullForUs + sinceUs);
  memory.lastFullUs = nowUs;
}

function noteNotFull(nowUs: Micros, memory: PathMemory): void {
  memory.fullForUs = Math.max(0, memory.fullForUs - FULL_DECAY * (nowUs - memory.lastFullUs));
  memory.lastFullUs = nowUs;
}

/** What the path holds when it is just full. */
function bdpBytes(path: PathSnapshot, memory: PathMemory): number {
  return (memory.peakBytesPerS * path.minRttUs) / US_PER_S;
}

/**
 * Window that `quick` needs beyond what it has in flight, so that it is not blocked by a segment sent now on `slow`: the
 * DATA_ACK comes back over `quick` after half of either RTT, that is half their difference later than for its own bytes.
 */
function blockedBytes(quickRate: number, quick: PathSnapshot, slow: PathSnapshot): number {
  return (quickRate * Math.max(0, slow.srttUs - quick.srttUs)) / (2 * US_PER_S);
}
