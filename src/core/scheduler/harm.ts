/**
 * Do no harm (DESIGN 1, 3.5): a path that makes all of them together slower than the best one alone is demoted for a while.
 * Once a second, of a connection that always had bytes waiting:
 *
 *   goodput below the best alone, several times in a row → demote the slowest of the others, for 10 s, then 20, … 160
 *   no gain in the two seconds after                     → it was not to blame: take it back, forget the old yardstick
 *   time is over                                         → take it back on trial; a minute without harm clears its record
 *
 * So a demotion is an experiment, and one that a wrong estimate caused (the best link itself became slower) ends by itself.
 */
import type { Micros } from '../base/time.js';
import { BestAlone } from './best-alone.js';

/**
 * Less than this share of the best path alone is harm … The yardstick is a peak and the goodput is not: on paths shared with
 * others both vary by a fifth by themselves, and a path demoted for that is goodput lost.
 */
const HARM_RATIO = 0.75;
/** … if it is seen so many times in a row. */
const HARM_LOOKS = 5;
/** Without the path the goodput must rise by this much, within so many looks. */
const GAIN_RATIO = 1.05;
const GAIN_LOOKS = 2;
const FIRST_DEMOTION_US: Micros = 10_000_000;
const MAX_DEMOTION_US: Micros = 160_000_000;
const CLEARED_AFTER_US: Micros = 60_000_000;
/** A path that carried less than this share of the goodput cannot have hurt it. */
const MIN_SHARE = 0.002;

export interface HarmPath {
  readonly id: number;
  /** Delivered over it so far. */
  readonly bytes: number;
  readonly srttUs: Micros;
  /** Of the tier that carries data now, and working. */
  readonly isInUse: boolean;
}

class Record {
  demotedUntilUs: Micros = 0;
  nextDemotionUs = FIRST_DEMOTION_US;
  returnedUs: Micros = 0;
  why = '';
}

export interface HarmVerdict {
  readonly id: number;
  readonly isDemoted: boolean;
  readonly why: string;
}

export class HarmJudge {
  readonly #best = new BestAlone();
  readonly #records = new Map<number, Record>();
  readonly #verdicts: HarmVerdict[] = [];
  #lastUs: Micros = -1;
  #lastBytes = 0;
  #harmLooks = 0;
  /** The experiment that is running. */
  #suspect = -1;
  #looksLeft = 0;
  #before = 0;
  #after = 0;

  /** Bytes/s that the best path alone would give, 0: not known. */
  bestAloneBytesPerS(nowUs: Micros): number {
    return this.#best.best(nowUs)?.bytesPerS ?? 0;
  }

  /** Why the path is demoted, or null. */
  why(id: number): string | null {
    const record = this.#records.get(id);
    return record !== undefined && record.demotedUntilUs > 0 ? record.why : null;
  }

  get isAnyDemoted(): boolean {
    for (const record of this.#records.values()) if (record.demotedUntilUs > 0) return true;
    return false;
  }

  /** Changes since the last call. */
  takeVerdict(): HarmVerdict | undefined {
    return this.#verdicts.shift();
  }

  /**
   * About once a second. `goodputBytes`: delivered in order so far. `isSaturated`: there was always more to send since the
   * last look; if not, nothing can be concluded.
   */
  look(nowUs: Micros, paths: readonly HarmPath[], goodputBytes: number, isSaturated: boolean): void {
    this.#forgetGone(paths);
    for (const path of paths) {
      if (path.isInUse) this.#best.note(nowUs, `${path.id}`, path.bytes);
      else this.#best.forget(`${path.id}`);
    }
    this.#release(nowUs);
    const elapsedUs = nowUs - this.#lastUs;
    const goodput = this.#lastUs < 0 ? 0 : ((goodputBytes - this.#lastBytes) * 1_000_000) / elapsedUs;
    const isFirst = this.#lastUs < 0;
    this.#lastUs = nowUs;
    this.#lastBytes = goodputBytes;
    if (isFirst || !isSaturated) {
      this.#harmLooks = 0;
      if (this.#suspect >= 0) this.#endExperiment();
      return;
    }
    if (this.#suspect >= 0) this.#experiment(nowUs, goodput);
    else this.#judge(nowUs, paths, goodput);
  }

  #judge(nowUs: Micros, paths: readonly HarmPath[], goodput: number): void {
    const best = this.#best.best(nowUs);
    if (best === null || goodput >= HARM_RATIO * best.bytesPerS) {
      this.#harmLooks = 0;
      return;
    }
    const blamed = this.#slowest(paths, best.path, goodput);
    if (blamed === null || ++this.#harmLooks < HARM_LOOKS) return;
    this.#harmLooks = 0;
    const record = this.#recordOf(blamed.id);
    record.demotedUntilUs = nowUs + record.nextDemotionUs;
    record.nextDemotionUs = Math.min(2 * record.nextDemotionUs, MAX_DEMOTION_US);
    record.why = `together ${mbit(goodput)} Mbit/s, the best path alone ${mbit(best.bytesPerS)}`;
    this.#verdicts.push({ id: blamed.id, isDemoted: true, why: record.why });
    this.#suspect = blamed.id;
    this.#looksLeft = GAIN_LOOKS;
    this.#before = goodput;
    this.#after = 0;
  }

  #slowest(paths: readonly HarmPath[], bestPath: string, goodput: number): HarmPath | null {
    let slowest: HarmPath | null = null;
    for (const path of paths) {
      if (!path.isInUse || `${path.id}` === bestPath || this.why(path.id) !== null) continue;
      if (this.#best.rateOf(`${path.id}`) < MIN_SHARE * goodput) continue;
      if (slowest === null || path.srttUs > slowest.srttUs) slowest = path;
    }
    return slowest;
  }

  #experiment(nowUs: Micros, goodput: number): void {
    this.#after = Math.max(this.#after, goodput);
    if (this.#after >= GAIN_RATIO * this.#before) {
      this.#endExperiment();
      return;
    }
    if (--this.#looksLeft > 0) return;
    const id = this.#suspect;
    this.#endExperiment();
    // What the best path once carried it does not carry now, with or without the other.
    const best = this.#best.best(nowUs);
    if (best !== null) this.#best.forget(best.path);
    this.#restore(nowUs, id, 'no gain without it');
  }

  #endExperiment(): void {
    this.#suspect = -1;
    this.#looksLeft = 0;
  }

  #release(nowUs: Micros): void {
    for (const [id, record] of this.#records) {
      if (record.demotedUntilUs > 0 && nowUs >= record.demotedUntilUs) this.#restore(nowUs, id, 'tried again');
      else if (record.demotedUntilUs === 0 && nowUs - record.returnedUs > CLEARED_AFTER_US) this.#records.delete(id);
    }
  }

  #restore(nowUs: Micros, id: number, why: string): void {
    const record = this.#recordOf(id);
    record.demotedUntilUs = 0;
    record.returnedUs = nowUs;
    this.#verdicts.push({ id, isDemoted: false, why });
  }

  #recordOf(id: number): Record {
    let record = this.#records.get(id);
    if (record === undefined) {
      record = new Record();
      this.#records.set(id, record);
    }
    return record;
  }

  #forgetGone(paths: readonly HarmPath[]): void {
    for (const id of this.#records.keys()) {
      if (paths.some((p) => p.id === id)) continue;
      this.#records.delete(id);
      this.#best.forget(`${id}`);
      if (this.#suspect === id) this.#endExperiment();
    }
  }
}

function mbit(bytesPerS: number): string {
  return ((8 * bytesPerS) / 1e6).toFixed(1);
}
