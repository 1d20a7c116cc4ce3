/** Do no harm: the estimate of the best path alone, and the judge that demotes and takes back. */
import test from 'ava';
import { BestAlone } from '../../../src/core/scheduler/best-alone.js';
import { HarmJudge, type HarmPath } from '../../../src/core/scheduler/harm.js';

const S = 1_000_000;
const MBIT = 125_000;

test('best alone: the highest rate that one path carried over a whole interval', (t) => {
  const best = new BestAlone();
  t.is(best.best(0), null, 'nothing is known');
  for (let s = 0; s <= 4; s++) {
    best.note(s * S, 'wifi', s * 40 * MBIT);
    best.note(s * S, 'lte', s * 20 * MBIT);
  }
  t.deepEqual(best.best(4 * S), { path: 'wifi', bytesPerS: 40 * MBIT });
  t.is(best.rateOf('lte'), 20 * MBIT);
  t.is(best.rateOf('dsl'), 0);
});

test('best alone: a burst shorter than an interval is no rate', (t) => {
  const best = new BestAlone();
  best.note(0, 'wifi', 0);
  best.note(0.1 * S, 'wifi', 10 * MBIT);
  t.is(best.best(0.1 * S), null);
  best.note(1 * S, 'wifi', 10 * MBIT);
  t.is(best.best(1 * S)!.bytesPerS, 10 * MBIT);
});

test('best alone: what was seen long ago, or of a path that is gone, does not count', (t) => {
  const best = new BestAlone();
  for (let s = 0; s <= 2; s++) best.note(s * S, 'wifi', s * 40 * MBIT);
  for (let s = 0; s <= 16; s++) best.note(s * S, 'lte', s * 20 * MBIT);
  t.is(best.best(16 * S)!.path, 'wifi');
  t.is(best.best(18 * S)!.path, 'lte', '15 s after the peak');
  best.forget('lte');
  t.is(best.best(18 * S), null);
});

test('best alone: a counter that starts afresh is not a rate, and takes nothing back', (t) => {
  const best = new BestAlone();
  best.note(0, 'wifi', 0);
  best.note(1 * S, 'wifi', 40 * MBIT);
  best.note(2 * S, 'wifi', 5 * MBIT);
  t.is(best.best(2 * S)!.bytesPerS, 40 * MBIT);
  best.note(3 * S, 'wifi', 15 * MBIT);
  t.is(best.rateOf('wifi'), 10 * MBIT);
});

/** Two paths; feeds one look a second, with what each carries and what comes out in order, in Mbit/s. */
class World {
  readonly judge = new HarmJudge();
  readonly verdicts: string[] = [];
  private second = 0;
  private readonly bytes = [0, 0];
  private goodputBytes = 0;

  run(seconds: number, wifi: number, lte: number, goodput: number, isSaturated = true): this {
    for (let i = 0; i < seconds; i++) {
      this.second++;
      const rates = [wifi, this.judge.why(1) === null ? lte : 0];
      const paths = rates.map((rate, id): HarmPath => {
        this.bytes[id]! += rate * MBIT;
        return { id, bytes: this.bytes[id]!, srttUs: id === 0 ? 20_000 : 300_000, isInUse: true };
      });
      this.goodputBytes += goodput * MBIT;
      this.judge.look(this.second * S, paths, this.goodputBytes, isSaturated);
      for (let v = this.judge.takeVerdict(); v !== undefined; v = this.judge.takeVerdict())
        this.verdicts.push(`${this.second} ${v.isDemoted ? 'demoted' : 'back'} ${v.id}: ${v.why}`);
    }
    return this;
  }
}

test('harm: goodput well below the best path alone, five looks in a row, demotes the slow one', (t) => {
  const w = new World().run(5, 50, 0, 50).run(4, 25, 5, 30);
  t.deepEqual(w.verdicts, [], 'four are not enough');
  w.run(1, 25, 5, 30);
  t.deepEqual(w.verdicts, ['10 demoted 1: together 30.0 Mbit/s, the best path alone 50.0']);
  t.is(w.judge.why(1), 'together 30.0 Mbit/s, the best path alone 50.0');
  t.is(w.judge.why(0), null);
});

test('harm: tried again after 10 s, and for twice as long if it harms again', (t) => {
  const w = new World().run(5, 50, 0, 50).run(5, 25, 5, 30).run(9, 50, 5, 50);
  t.is(w.verdicts.length, 1);
  w.run(1, 50, 5, 50);
  t.is(w.verdicts[1], '20 back 1: tried again');
  w.run(5, 25, 5, 30);
  t.regex(w.verdicts[2]!, /^25 demoted 1/);
  w.run(19, 50, 5, 50);
  t.is(w.verdicts.length, 3);
  w.run(1, 50, 5, 50);
  t.is(w.verdicts[3], '45 back 1: tried again');
});

test('harm: no gain without it takes it back at once: the best path itself became slower', (t) => {
  const w = new World().run(5, 50, 5, 55).run(5, 10, 5, 15).run(2, 10, 5, 10);
  t.deepEqual(w.verdicts.slice(1), ['12 back 1: no gain without it']);
  w.run(20, 10, 5, 15);
  t.is(w.verdicts.length, 2, 'and the old yardstick is forgotten');
});

test('harm: nothing is concluded from traffic that does not fill the paths, nor of paths that add up', (t) => {
  t.deepEqual(new World().run(5, 50, 0, 50).run(20, 2, 1, 3, false).verdicts, []);
  t.deepEqual(new World().run(60, 50, 30, 80).verdicts, []);
});

test('harm: a rate that varies by a fifth, as beside others on a shared link, is none', (t) => {
  t.deepEqual(new World().run(2, 50, 5, 55).run(20, 36, 4, 40).verdicts, []);
});

test('harm: a path that carries nothing is not blamed', (t) => {
  t.deepEqual(new World().run(5, 50, 0, 50).run(10, 30, 0, 30).verdicts, []);
});
