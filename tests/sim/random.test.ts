/**
 * Scenarios drawn from seeds. MPTUN_SIM_SEED=n runs that one alone; MPTUN_SIM_COUNT=n draws more, starting with
 * MPTUN_SIM_FIRST.
 */
import test from 'ava';
import { violations } from '../../src/sim/scenario.js';
import { randomScenario } from '../support/sim-random.js';
import { report, simulate } from '../support/sim-run.js';

const { MPTUN_SIM_SEED, MPTUN_SIM_FIRST = '1', MPTUN_SIM_COUNT = '40' } = process.env;
const seeds =
  MPTUN_SIM_SEED === undefined
    ? Array.from({ length: Number(MPTUN_SIM_COUNT) }, (_, i) => Number(MPTUN_SIM_FIRST) + i)
    : [Number(MPTUN_SIM_SEED)];

test('random scenarios deliver every byte once, in order, and end', (t) => {
  const failures: string[] = [];
  for (const seed of seeds) {
    const scenario = randomScenario(seed);
    try {
      const result = simulate(scenario);
      const broken = violations(result, scenario.budget);
      for (const [i, { finishedUs, fallbackReason }] of result.traffic.entries()) {
        if (finishedUs < 0) broken.push(`traffic ${i} did not finish`);
        if (fallbackReason?.includes('without') === true)
          broken.push(`traffic ${i}: no box strips options: ${fallbackReason}`);
      }
      if (broken.length > 0) failures.push(report(t, result, broken));
    } catch (cause) {
      failures.push((cause as Error).stack ?? String(cause));
    }
  }
  t.log(`${seeds.length} scenarios from seed ${seeds[0]}`);
  t.is(failures.length, 0, failures.join('\n\n'));
});

test('the same seed is the same run, to the last integer', (t) => {
  const scenario = randomScenario(seeds[0]!);
  t.deepEqual(simulate(scenario), simulate(scenario));
});
