/** The starred cases of the handover catalogue for tests: at a fifth of their rates and half their times. */
import type { ExecutionContext } from 'ava';
import { Stage, stageKey, starredCases } from '../../src/lab/catalogue.js';
import type { CatalogueCase } from '../../src/sim/catalogue/case.js';

const TRACES = 'tests/fixtures/traces';
const STARRED = starredCases(TRACES);
const COMMON = stageKey(STARRED[0]!);

/** Those that one lab and tunnel can play one after the other, and those that need their own. */
export const ON_COMMON_STAGE = STARRED.filter((c) => stageKey(c) === COMMON);
export const ON_OWN_STAGE = STARRED.filter((c) => stageKey(c) !== COMMON);

export function openStage(c: CatalogueCase, prefix: string): Promise<Stage> {
  return Stage.open(c, { prefix, tracesDir: TRACES, timeScale: 0.5, rateScale: 0.2 });
}

/** No connection is lost, every byte is right, links that return are used; the budgets are those of the simulator. */
export async function assertSurvived(t: ExecutionContext, stage: Stage, c: CatalogueCase): Promise<void> {
  const { bytes, gapMs, backInUseMs, broken } = await stage.play(c);
  t.log(`${bytes} bytes, longest gap ${gapMs.toFixed(0)} ms, back in use after ${JSON.stringify(backInUseMs)} ms`);
  t.deepEqual(broken, []);
}
