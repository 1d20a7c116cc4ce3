import test from 'ava';
import { HostClocks, type Pause, PauseWatch, pauseText } from '../../../src/daemon/clock.js';

const S = 1_000_000;

function watched() {
  const clocks = {
    awakeUs: 5 * S,
    sleptUs: 70 * S,
    monotonicUs: () => clocks.awakeUs,
    boottimeUs: () => clocks.awakeUs + clocks.sleptUs,
  };
  const pauses: Pause[] = [];
  const watch = new PauseWatch(clocks, (pause) => pauses.push(pause), 0);
  return { clocks, pauses, watch };
}

test('sleep shows as boot time gained on monotonic time, once', (t) => {
  const { clocks, pauses, watch } = watched();
  clocks.awakeUs += 0.25 * S;
  watch.look();
  t.deepEqual(pauses, [], 'what was slept before is no news');
  clocks.sleptUs += 600 * S;
  clocks.awakeUs += 0.25 * S;
  watch.look();
  t.deepEqual(pauses, [{ sleptUs: 600 * S, stoppedUs: 0.25 * S }]);
  t.is(pauseText(pauses[0]!), 'slept for 600 s');
  clocks.awakeUs += 0.25 * S;
  watch.look();
  t.is(pauses.length, 1);
});

test('a process that was stopped finds out by its late look', (t) => {
  const { clocks, pauses, watch } = watched();
  clocks.awakeUs += 4.9 * S;
  watch.look();
  t.deepEqual(pauses, [], 'a busy host is none');
  clocks.awakeUs += 20 * S;
  watch.look();
  t.deepEqual(pauses, [{ sleptUs: 0, stoppedUs: 20 * S }]);
  t.is(pauseText(pauses[0]!), 'did not run for 20 s');
});

test('the clocks’ unequal grain, and time set back, are no sleep', (t) => {
  const { clocks, pauses, watch } = watched();
  for (const jitterUs of [10_000, -10_000, 900_000, -900_000, -60 * S]) {
    clocks.sleptUs += jitterUs;
    watch.look();
  }
  t.deepEqual(pauses, []);
});

test('the host’s own clocks: both run, boot time is never behind', (t) => {
  const clocks = new HostClocks();
  t.teardown(() => clocks.close());
  t.true(clocks.boottimeUs() >= clocks.monotonicUs() - 20_000);
  const before = clocks.boottimeUs();
  t.true(clocks.boottimeUs() >= before);
});
