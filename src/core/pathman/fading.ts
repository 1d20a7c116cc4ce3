/**
 * Is a radio link about to break? (DESIGN 3.4, the predictive trigger.) Samples of its signal, with what its subflows
 * notice, become `fading` or not. The level alone says little, because many a weak link works for hours; what counts is
 * where the trend leads, or a weak signal that the path suffers from already. A verdict ends at once when the signal is
 * strong again, else when it has been good for a while; the next one within a minute is held for longer each time, however
 * strong the signal, so that no link flaps.
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
/** The trend over some seconds. What falls more slowly than this is noise (2 dB of it make slopes of 0.4 dB/s) or weather. */
const WALK: Trend = { windowUs: 4 * US_PER_S, minSpanUs: 1_500 * US_PER_MS, fallDbPerS: 1.5, horizonS: 4 };
/**
 * The same over the last moment, for who runs, or drives, or shuts the door. Such a fall may end as suddenly: it is not
 * followed as far. (2 dB of noise make slopes of 4 dB/s at the most.)
 */
const RUN: Trend = { windowUs: 1_250 * US_PER_MS, minSpanUs: 700 * US_PER_MS, fallDbPerS: 6, horizonS: 1.5 };
const MIN_SAMPLES = 3;
const MAX_SAMPLES = 48;
const STEADY_DB_PER_S = 0.5;
/** Good again: above WEAK_DBM by this much. */
const HYSTERESIS_DB = 6;
/** The level is the median of this time, and of three samples at least: one outlier is none. */
const LEVEL_US = 500 * US_PER_MS;
const LEVEL_SAMPLES = 3;
/**
 * Bad for this long, and in more than one sample, makes a verdict; longer where there is time, or it is the path that
 * suffers, since a radio that scans is deaf for a quarter of a second.
 */
const BAD_FOR_US = 200 * US_PER_MS;
const POOR_FOR_US = 500 * US_PER_MS;
/** Strong for so long ends it. */
const STRONG_FOR_US = 90 * US_PER_MS;
/** A verdict holds this long at least, doubled by each relapse within RELAPSE_US of its end. */
const HOLD_US = 5 * US_PER_S;
const MAX_HOLD_US = 60 * US_PER_S;
const RELAPSE_US = 60 * US_PER_S;
/** Signs of suffering. */
const LOSS_RATE = 0.05;
const RTT_FACTOR = 4;
const RTT_ABOVE_US = 100 * US_PER_MS;

/** Slopes of the samples of `windowUs`, if they span `minSpanUs`; a fall of so many dB/s is followed `horizonS` ahead. */
interface Trend {
  readonly windowUs: Micros;
  readonly minSpanUs: Micros;
  readonly fallDbPerS: number;
  /** A handover needs some seconds to be comfortable. */
  readonly horizonS: number;
}

interface Sample {
  readonly atUs: Micros;
  readonly dbm: number;
}

/** One link. */
export class Fading {
  isFading = false;
  private readonly samples: Sample[] = [];
  private badSinceUs: Micros | null = null;
  private poorSinceUs: Micros | null = null;
  private strongSinceUs: Micros | null = null;
  private goodSinceUs: Micros | null = null;
  private holdUs = HOLD_US;
  private isRelapse = false;
  private endedUs = Number.NEGATIVE_INFINITY;

  /** Takes a sample; the verdict from now on. Samples that come unevenly or late do no harm. */
  sample(nowUs: Micros, signalDbm: number, facts: PathFacts = {}): boolean {
    this.samples.push({ atUs: nowUs, dbm: signalDbm });
    while (this.samples.length > MAX_SAMPLES || this.samples[0]!.atUs < nowUs - WALK.windowUs) this.samples.shift();
    if (this.isFading) this.mayEnd(nowUs, signalDbm, facts);
    else this.mayBegin(nowUs, facts);
    return this.isFading;
  }

  /** The verdict may soon be another one: samples are worth taking more often. */
  get isRestless(): boolean {
    return this.isFading || (this.badSinceUs ?? this.poorSinceUs) !== null || this.slope(RUN) <= -RUN.fallDbPerS / 2;
  }

  /** Another network, or the link was away: what was seen before says nothing any more. */
  reset(): void {
    this.samples.length = 0;
    this.badSinceUs = null;
    this.poorSinceUs = null;
    this.goodSinceUs = null;
    this.strongSinceUs = null;
    this.isFading = false;
  }

  private mayBegin(nowUs: Micros, facts: PathFacts): void {
    this.badSinceUs = this.isBad() ? (this.badSinceUs ?? nowUs) : null;
    this.poorSinceUs = this.isPoor(facts) ? (this.poorSinceUs ?? nowUs) : null;
    if (!isLongSince(nowUs, this.badSinceUs, BAD_FOR_US) && !isLongSince(nowUs, this.poorSinceUs, POOR_FOR_US)) return;
    this.isFading = true;
    this.badSinceUs = null;
    this.poorSinceUs = null;
    this.goodSinceUs = null;
    this.strongSinceUs = null;
    this.isRelapse = nowUs - this.endedUs < RELAPSE_US;
    this.holdUs = this.isRelapse ? Math.min(2 * this.holdUs, MAX_HOLD_US) : HOLD_US;
  }

  private mayEnd(nowUs: Micros, signalDbm: number, facts: PathFacts): void {
    this.strongSinceUs = signalDbm >= STRONG_DBM ? (this.strongSinceUs ?? nowUs) : null;
    this.goodSinceUs = this.isGood(facts) ? (this.goodSinceUs ?? nowUs) : null;
    const isStrong = isLongSince(nowUs, this.strongSinceUs, STRONG_FOR_US);
    const isHeld = !isLongSince(nowUs, this.goodSinceUs, this.holdUs);
    if (isHeld && (!isStrong || this.isRelapse)) return;
    this.isFading = false;
    this.endedUs = nowUs;
    // The fall that is over is no part of the next one.
    this.samples.splice(0, this.samples.length - 1);
  }

  private isBad(): boolean {
    const level = this.level();
    return level <= DEAD_DBM || (level <= STRONG_DBM && this.leadsToEnd(level, RUN));
  }

  private isPoor(facts: PathFacts): boolean {
    const level = this.level();
    if (level <= WEAK_DBM && suffers(facts)) return true;
    return level <= STRONG_DBM && this.leadsToEnd(level, WALK) && this.goesOn;
  }

  /** What has fallen is falling still: it was no step (somebody stands in the way) that is over. */
  private get goesOn(): boolean {
    return this.slope(RUN) <= this.slope(WALK) / 4;
  }

  private leadsToEnd(level: number, trend: Trend): boolean {
    const slope = this.slope(trend);
    return slope <= -trend.fallDbPerS && level + slope * trend.horizonS <= DEAD_DBM;
  }

  /** Strong again, or weak but steady and doing well: the walk ended before the link did. */
  private isGood(facts: PathFacts): boolean {
    const level = this.level();
    const slope = this.slope(WALK);
    if (slope < -STEADY_DB_PER_S || suffers(facts)) return false;
    return level >= WEAK_DBM + HYSTERESIS_DB || (level > DEAD_DBM + HYSTERESIS_DB / 2 && slope <= STEADY_DB_PER_S);
  }

  private level(): number {
    const { samples } = this;
    const sinceUs = samples.at(-1)!.atUs - LEVEL_US;
    const last = samples.filter(({ atUs }, i) => atUs >= sinceUs || i >= samples.length - LEVEL_SAMPLES);
    return last.map(({ dbm }) => dbm).sort((a, b) => a - b)[last.length >> 1]!;
  }

  /** Least squares over the window, dB/s; 0 while there is too little to tell. */
  private slope({ windowUs, minSpanUs }: Trend): number {
    const last = this.samples.at(-1)?.atUs ?? 0;
    const samples = this.samples.filter(({ atUs }) => atUs >= last - windowUs);
    if (samples.length < MIN_SAMPLES || last - samples[0]!.atUs < minSpanUs) return 0;
    const first = samples[0]!.atUs;
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

function isLongSince(nowUs: Micros, sinceUs: Micros | null, us: Micros): boolean {
  return sinceUs !== null && nowUs - sinceUs >= us;
}

function suffers({ srttUs = 0, minRttUs = 0, lossRate = 0, isStalled = false }: PathFacts): boolean {
  const isSlow = minRttUs > 0 && srttUs > RTT_FACTOR * minRttUs && srttUs > minRttUs + RTT_ABOVE_US;
  return isStalled || lossRate >= LOSS_RATE || isSlow;
}
