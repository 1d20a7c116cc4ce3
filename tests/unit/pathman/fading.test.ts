/** When a link counts as fading, by series of samples as radios give them: four a second, ten where it matters, with a few dB of noise. */
import test from 'ava';
import { Fading, type PathFacts } from '../../../src/core/pathman/fading.js';
import { Prng } from '../../../src/sim/prng.js';

const MS = 1000;
const S = 1_000_000;
const SAMPLE_US = 250 * MS;
const RESTLESS_SAMPLE_US = 100 * MS;

/** dBm at second `s`. */
type Series = (s: number) => number;

interface Change {
  readonly atS: number;
  readonly isFading: boolean;
}

function play(
  seconds: number,
  series: Series,
  facts: (s: number) => PathFacts = () => ({}),
  noiseDb = 0,
  seed = 1,
): Change[] {
  const fading = new Fading();
  const luck = new Prng(seed);
  const noise = () => (noiseDb === 0 ? 0 : luck.below(2 * noiseDb + 1) - noiseDb);
  const changes: Change[] = [];
  for (let us = 0; us <= seconds * S; us += fading.isRestless ? RESTLESS_SAMPLE_US : SAMPLE_US) {
    const before = fading.isFading;
    const s = us / S;
    if (fading.sample(us, Math.round(series(s)) + noise(), facts(s)) !== before)
      changes.push({ atS: s, isFading: !before });
  }
  return changes;
}

/** Someone walks away: steady at first, then as many dB less each second. */
const walk =
  (fromDbm: number, dbPerS: number, startS = 10): Series =>
  (s) =>
    Math.max(-95, fromDbm - Math.max(0, s - startS) * dbPerS);

test('a walk away over 10 s is seen at least a second before the signal is too weak, whatever the noise', (t) => {
  for (let seed = 1; seed <= 50; seed++) {
    const changes = play(22, walk(-50, 4), () => ({}), 2, seed);
    t.is(changes.length, 1, `seed ${seed}`);
    const { atS } = changes[0]!;
    const deadS = 10 + (87 - 50) / 4;
    t.true(atS > 12 && atS <= deadS - 1, `seed ${seed}: at ${atS} s, dead at ${deadS} s`);
  }
});

test('a weak but steady signal does not fade, nor flap, in an hour of noise', (t) => {
  for (const dbm of [-70, -76, -80, -82])
    t.deepEqual(
      play(
        3600,
        () => dbm,
        () => ({}),
        2,
        -dbm,
      ),
      [],
      `${dbm} dBm`,
    );
});

test('weak, and the path suffers: fading; the same losses under a strong signal are not the radio’s', (t) => {
  const suffering: readonly PathFacts[] = [
    { lossRate: 0.1 },
    { srttUs: 400 * MS, minRttUs: 20 * MS },
    { isStalled: true },
  ];
  for (const bad of suffering) {
    const facts = (s: number) => (s >= 10 ? bad : { lossRate: 0, srttUs: 25 * MS, minRttUs: 20 * MS });
    t.deepEqual(
      play(20, () => -80, facts),
      [{ atS: 10.5, isFading: true }],
      JSON.stringify(bad),
    );
    t.deepEqual(
      play(20, () => -55, facts),
      [],
      JSON.stringify(bad),
    );
  }
});

test('a slow decline that is not going anywhere soon is left alone until the end of hearing', (t) => {
  const changes = play(200, walk(-60, 0.2));
  t.is(changes.length, 1);
  t.true(changes[0]!.atS >= 10 + 26.5 / 0.2, `${changes[0]!.atS}`);
});

test('samples that a scan spoils change nothing', (t) => {
  const series: Series = (s) => (s % 20 === 10 ? -92 : -60);
  t.deepEqual(play(600, series), []);
});

test('out of the room and back: fading once, and over as soon as the signal is strong again', (t) => {
  const series: Series = (s) => (s < 10 ? -55 : s < 18 ? -55 - (s - 10) * 4 : s < 26 ? -87 + (s - 18) * 4 : -55);
  const changes = play(60, series);
  t.deepEqual(
    changes.map((c) => c.isFading),
    [true, false],
  );
  t.true(changes[0]!.atS < 18.5, `${changes[0]!.atS}`);
  const strongS = 18 + (87 - 62.5) / 4;
  t.true(changes[1]!.atS >= strongS, `${changes[1]!.atS}`);
  t.true(changes[1]!.atS < strongS + 0.6, `${changes[1]!.atS}`);
});

test('out of the room and half the way back: good again only after it has been good for five seconds', (t) => {
  const series: Series = (s) => (s < 10 ? -55 : s < 18 ? -55 - (s - 10) * 4 : s < 22 ? -87 + (s - 18) * 4 : -70);
  const changes = play(60, series);
  t.deepEqual(
    changes.map((c) => c.isFading),
    [true, false],
  );
  t.true(changes[1]!.atS >= 22 + 4 && changes[1]!.atS < 40, `${changes[1]!.atS}`);
});

test('a door falls shut, a train departs: 38 dB in 3 s are seen a second before the last', (t) => {
  for (let seed = 1; seed <= 50; seed++) {
    const changes = play(13, walk(-52, 38 / 3), () => ({}), 2, seed);
    t.true(
      changes.length === 1 && changes[0]!.atS > 10.8 && changes[0]!.atS <= 12.25,
      `seed ${seed}: ${changes[0]?.atS}`,
    );
  }
});

test('a body in the way, 9 dB within a second, is no fading', (t) => {
  for (let seed = 1; seed <= 50; seed++) {
    const series: Series = (s) => (s < 10 ? -58 : Math.max(-67, -58 - (s - 10) * 9));
    t.deepEqual(
      play(30, series, () => ({}), 2, seed),
      [],
      `seed ${seed}`,
    );
  }
});

test('a radio that is deaf for a quarter of a second under a weak signal does not suffer yet', (t) => {
  const facts = (s: number) => ({ isStalled: s % 5 < 0.3 });
  t.deepEqual(
    play(100, () => -80, facts),
    [],
  );
});

test('a verdict that came back within a minute is held, however strong the signal', (t) => {
  const series: Series = (s) => (s % 20 < 10 ? -50 : -50 - Math.min(9, (s % 20) - 10) * 5);
  const changes = play(60, series);
  t.true(changes[0]!.isFading && !changes[1]!.isFading && changes[1]!.atS <= 20.5, JSON.stringify(changes));
  const [again, ended] = [changes[2]!, changes[3]];
  t.true(again.isFading && (ended === undefined || ended.atS - again.atS > 10), JSON.stringify(changes));
});

test('asked more often while it falls or a verdict stands, else not', (t) => {
  const fading = new Fading();
  for (let i = 0; i < 40; i++) fading.sample(i * SAMPLE_US, -55 + (i % 3));
  t.false(fading.isRestless);
  for (let i = 0; i < 3; i++) fading.sample((40 + i) * SAMPLE_US, -60 - 5 * i);
  t.true(fading.isRestless);
  fading.reset();
  t.false(fading.isRestless);
});

test('the walk ends where it is weak but steady: the link is used again', (t) => {
  const changes = play(60, (s) => Math.max(-80, -50 - Math.max(0, s - 10) * 4));
  t.deepEqual(
    changes.map((c) => c.isFading),
    [true, false],
  );
});

test('to and fro at the edge: each relapse is held for longer, so that an hour of it means few changes', (t) => {
  // 20 s in the corridor, 20 s in the room.
  const series: Series = (s) => (Math.floor(s / 20) % 2 === 1 ? -89 : -60);
  const changes = play(3600, series);
  t.true(changes.length <= 8, `${changes.length} changes`);
});

test('two access points: what is said of one ends with it', (t) => {
  const fading = new Fading();
  for (let i = 0; i < 20; i++) fading.sample(i * SAMPLE_US, -50 - 2 * i);
  t.true(fading.isFading);
  fading.reset();
  t.false(fading.isFading);
  t.false(fading.sample(20 * SAMPLE_US, -70));
});
