/** Starred cases of the handover catalogue that need a lab or a tunnel of their own, with real processes. */
import test from 'ava';
import { assertSurvived, ON_OWN_STAGE, openStage } from '../support/starred.js';

for (const c of ON_OWN_STAGE)
  test.serial(c.name, async (t) => {
    t.timeout(280_000);
    const stage = await openStage(c, 'cty-cat-');
    try {
      await assertSurvived(t, stage, c);
    } finally {
      await stage.dispose();
    }
  });
