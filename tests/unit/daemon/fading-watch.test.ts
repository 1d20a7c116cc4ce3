/** Samples of a link's signal and what its subflows count, to verdicts: told once each. */
import test from 'ava';
import { type FadingView, FadingWatch } from '../../../src/daemon/fading-watch.js';

const S = 1_000_000;
const LINK = { id: 3, ssid: 'home' };
const SUBFLOW: FadingView = {
  state: 'established',
  srttUs: 20_000,
  minRttUs: 15_000,
  isStalled: false,
  bytesSent: 0,
  bytesRetransmitted: 0,
};

/** Samples twice a second, each told its level; the verdicts that were told. */
function run(watch: FadingWatch, fromUs: number, levels: readonly number[], subflow: (i: number) => FadingView) {
  return levels.map((dbm, i) => watch.sample(fromUs + i * 0.5 * S, LINK, dbm, [subflow(i)])).filter((v) => v !== null);
}

test('a walk out of reach is told once, and its end when the link goes', (t) => {
  const watch = new FadingWatch();
  const walk = Array.from({ length: 14 }, (_, i) => -50 - 2.5 * i);
  t.deepEqual(
    run(watch, 0, walk, () => SUBFLOW),
    [true],
  );
  t.is(watch.reset(3), false);
  t.is(watch.reset(3), null);
  t.is(watch.reset(4), null, 'a link without samples');
});

test('weak but steady is told only when its subflows lose', (t) => {
  const steady = new Array<number>(12).fill(-80);
  t.deepEqual(
    run(new FadingWatch(), 0, steady, (i) => ({ ...SUBFLOW, bytesSent: 50_000 * i })),
    [],
  );
  const losing = (i: number) => ({ ...SUBFLOW, bytesSent: 50_000 * i, bytesRetransmitted: 5_000 * i });
  t.deepEqual(run(new FadingWatch(), 0, steady, losing), [true]);
  const idle = (i: number) => ({ ...SUBFLOW, bytesSent: 100 * i, bytesRetransmitted: 100 * i });
  t.deepEqual(run(new FadingWatch(), 0, steady, idle), [], 'a lost probe or two of an idle link say nothing');
});

test('all subflows stalled is suffering, one of two is not', (t) => {
  const watch = new FadingWatch();
  const stalled = { ...SUBFLOW, isStalled: true };
  for (let i = 0; i < 8; i++) t.is(watch.sample(i * 0.5 * S, LINK, -80, [stalled, SUBFLOW]), null);
  t.is(watch.sample(4.0 * S, LINK, -80, [stalled, stalled]), null);
  t.is(watch.sample(4.5 * S, LINK, -80, [stalled, stalled]), true);
});

test('another network is another story', (t) => {
  const watch = new FadingWatch();
  for (let i = 0; i < 6; i++) watch.sample(i * 0.5 * S, LINK, -60 - 3 * i, []);
  t.is(watch.sample(3 * S, { ...LINK, ssid: 'other' }, -70, []), false, 'it was fading');
});

test('a radio that says nothing of its signal any more: after three seconds nothing is held against the link', (t) => {
  const watch = new FadingWatch();
  t.is(watch.sample(0, LINK, null, []), null, 'it never said anything');
  for (let i = 0; i < 6; i++) watch.sample(i * 0.5 * S, LINK, -60 - 3 * i, []);
  const silence = [3, 3.5, 4, 5, 5.4, 5.5, 6].map((s) => watch.sample(s * S, LINK, null, []));
  t.deepEqual(silence, [null, null, null, null, null, false, null]);
});
