/**
 * Is a radio link about to break? (DESIGN 3.4, the predictive trigger.) Samples of its signal, with what its subflows
 * notice, become `fading` or not. The level alone says little, because many a weak link works for hours; what counts is
 * where the trend leads, or a weak signal that the path suffers from already. A verdict is held for a while, longer each
 * time that it is taken back soon, so that no link flaps.
 */
import { type Micros, US_PER_MS, US_PER_S } from '../base/time.js';

/** What the path over the link shows at the time of a sample; whatever is not known is absent. */
export interface PathFacts {
  readonly srttUs?: Micros;
  readonly minRttUs?: Micros;
  /** Share of the segments sent since the last sample that were lost, 0 to 1. */
  readonly lossRate?: number;
  /** DATA_ACK stands still although data is outstanding there. */
  readonly isStalled?: boolean;
}

/** Where receivers give up, and where they begin to struggle, dBm. */
const DEAD_DBM = -87;
const WEAK_DBM = -78;
/** Above this nothing is predicted: there is time. */
const STRONG_DBM = -62;
/** A handover needs about this long to be comfortable: the trend is followed so far ahead. */
const HORIZON_S = 4;
/** A slower fall than this is noise (2 dB of it make slopes of 0.4 dB/s) or weather, dB/s. */
const FALL_DB_PER_S = 1.5;
const STEADY_DB_PER_S = 0.5;
/** Good again: above WEAK_DBM by this much. */
const HYSTERESIS_DB = 6;
/** The trend is that of the samples of this time, from so many of them on. */
const WINDOW_US = 4 * US_PER_S;
const MIN_SAMPLES = 4;
const MIN_SPAN_US = 1_500 * US_PER_MS;
const MAX_SAMPLES = 32;
/** So many bad samples in a row make a verdict: a single one is an outlier, or a scan. */
const BAD_SAMPLES = 2;
/** A verdict holds this long at least, doubled by each relapse within RELAPSE_US of its end. */
const HOLD_US = 5 * US_PER_S;
const MAX_HOLD_US = 60 * US_PER_S;
const RELAPSE_US = 60 * US_PER_S;
/** Signs of suffering. */
const LOSS_RATE = 0.05;
const RTT_FACTOR = 4;
const RTT_ABOVE_US = 100 * US_PER_MS;

interface Sample {
  readonly atUs: Micros;
  readonly dbm: number;
}

/** One link. */
export class Fading {
  isFading = false;
  private readonly samples: Sample[] = [];
  private badInRow = 0;
  private goodSinceUs: Micros | null = null;
  private holdUs = HOLD_US;
  private endedUs = Number.NEGATIVE_INFINITY;

  /** Takes a sample; the verdict from now on. Samples that come unevenly or late do no harm. */
  sample(nowUs: Micros, signalDbm: number, facts: PathFacts = {}): boolean {
    this.samples.push({ atUs: nowUs, dbm: signalDbm });
    while (this.samples.length > MAX_SAMPLES || this.samples[0]!.atUs < nowUs - WINDOW_US) this.samples.shift();
    if (this.isFading) this.mayEnd(nowUs, facts);
    else this.mayBegin(nowUs, facts);
    return this.isFading;
  }

  /** Another network, or the link was away: what was seen before says nothing any more. */
  reset(): void {
    this.samples.length = 0;
    this.badInRow = 0;
    this.goodSinceUs = null;
    this.isFading = false;
  }

  private mayBegin(nowUs: Micros, facts: PathFacts): void {
    this.badInRow = this.isBad(facts) ? this.badInRow + 1 : 0;
    if (this.badInRow < BAD_SAMPLES) return;
    this.isFading = true;
    this.goodSinceUs = null;
    const isRelapse = nowUs - this.endedUs < RELAPSE_US;
    this.holdUs = isRelapse ? Math.min(2 * this.holdUs, MAX_HOLD_US) : HOLD_US;
  }

  private mayEnd(nowUs: Micros, facts: PathFacts): void {
    if (!this.isGood(facts)) {
      this.goodSinceUs = null;
      return;
    }
    this.goodSinceUs ??= nowUs;
    if (nowUs - this.goodSinceUs < this.holdUs) return;
    this.isFading = false;
    this.badInRow = 0;
    this.endedUs = nowUs;
  }

  private isBad(facts: PathFacts): boolean {
    const level = this.level();
    if (level <= DEAD_DBM) return true;
    if (level <= WEAK_DBM && suffers(facts)) return true;
    const slope = this.slope();
    return level <= STRONG_DBM && slope <= -FALL_DB_PER_S && level + slope * HORIZON_S <= DEAD_DBM;
  }

  /** Strong again, or weak but steady and doing well: the walk ended before the link did. */
  private isGood(facts: PathFacts): boolean {
    const level = this.level();
    const slope = this.slope();
    if (slope < -STEADY_DB_PER_S || suffers(facts)) return false;
    return level >= WEAK_DBM + HYSTERESIS_DB || (level > DEAD_DBM + HYSTERESIS_DB / 2 && slope <= STEADY_DB_PER_S);
  }

  /** Median of the last three samples, dBm: one outlier is none. */
  private level(): number {
    const last = this.samples.slice(-3).map(({ dbm }) => dbm);
    return last.sort((a, b) => a - b)[last.length >> 1]!;
  }

  /** Least squares over the window, dB/s; 0 while there is too little to tell. */
  private slope(): number {
    const { samples } = this;
    const first = samples[0]!.atUs;
    if (samples.length < MIN_SAMPLES || samples.at(-1)!.atUs - first < MIN_SPAN_US) return 0;
    let sumT = 0;
    let sumD = 0;
    for (const { atUs, dbm } of samples) {
      sumT += (atUs - first) / US_PER_S;
      sumD += dbm;
    }
    const meanT = sumT / samples.length;
    const meanD = sumD / samples.length;
    let up = 0;
    let down = 0;
    for (const { atUs, dbm } of samples) {
      const t = (atUs - first) / US_PER_S - meanT;
      up += t * (dbm - meanD);
      down += t * t;
    }
    return up / down;
  }
}

function suffers({ srttUs = 0, minRttUs = 0, lossRate = 0, isStalled = false }: PathFacts): boolean {
  const isSlow = minRttUs > 0 && srttUs > RTT_FACTOR * minRttUs && srttUs > minRttUs + RTT_ABOVE_US;
  return isStalled || lossRate >= LOSS_RATE || isSlow;
}
