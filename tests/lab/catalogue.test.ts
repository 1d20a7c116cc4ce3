/**
 * Starred cases of the handover catalogue with real processes, at a fifth of their rates and half their times: no
 * connection is lost, every byte is right, links that return are used. Those that share a lab and a tunnel, and some that
 * need their own; `npm run catalogue` plays all of them, in full.
 */
import { readFileSync } from 'node:fs';
import test from 'ava';
import { Stage, stageKey } from '../../src/lab/catalogue.js';
import { catalogue } from '../../src/sim/catalogue/cases.js';
import { parseTrace } from '../../src/sim/trace.js';

const TRACES = 'tests/fixtures/traces';
const OWN_STAGE = ['the server gains an address, and loses its second'];
const options = { prefix: 'ctx-cat-', tracesDir: TRACES, timeScale: 0.5, rateScale: 0.2 };

const trace = (way: string) => parseTrace(readFileSync(`${TRACES}/lte-driving-a.${way}`, 'utf8'));
const cases = catalogue({ lteDriving: { up: trace('up'), down: trace('down') } }).filter(({ lab }) => lab !== null);
const common = stageKey(cases[0]!);

let shared: Stage | null = null;

test.after.always(async () => {
  await shared?.dispose();
});

for (const c of cases.filter((each) => stageKey(each) === common || OWN_STAGE.includes(each.name)))
  test.serial(c.name, async (t) => {
    t.timeout(280_000);
    const isCommon = stageKey(c) === common;
    const stage = isCommon && shared !== null ? shared : await Stage.open(c, options);
    if (isCommon) shared = stage;
    try {
      const { bytes, gapMs, backInUseMs, broken } = await stage.play(c);
      t.log(`${bytes} bytes, longest gap ${gapMs.toFixed(0)} ms, back in use after ${JSON.stringify(backInUseMs)} ms`);
      t.deepEqual(broken, []);
    } finally {
      if (!isCommon || !t.passed) {
        await stage.dispose();
        if (isCommon) shared = null;
      }
    }
  });
