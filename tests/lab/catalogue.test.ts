/** Starred cases of the handover catalogue with real processes, in one lab and tunnel. `npm run catalogue` plays them in full. */
import test from 'ava';
import type { Stage } from '../../src/lab/catalogue.js';
import { assertSurvived, ON_COMMON_STAGE, openStage } from '../support/starred.js';

let shared: Stage | null = null;

test.after.always(async () => {
  await shared?.dispose();
});

for (const c of ON_COMMON_STAGE)
  test.serial(c.name, async (t) => {
    t.timeout(280_000);
    shared ??= await openStage(c, 'ctx-cat-');
    try {
      await assertSurvived(t, shared, c);
    } finally {
      if (!t.passed) {
        await shared.dispose();
        shared = null;
      }
    }
  });
