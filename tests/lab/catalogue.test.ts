/**
 * The starred cases of the handover catalogue with real processes, at a fifth of their rates and half their times: no
 * connection is lost, every byte is right, links that return are used. `npm run catalogue` plays them in full.
 */

import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import test from 'ava';
import { playInLab } from '../../src/lab/catalogue.js';
import { catalogue } from '../../src/sim/catalogue/cases.js';
import { parseTrace } from '../../src/sim/trace.js';

const TRACES = 'tests/fixtures/traces';
const trace = (way: string) => parseTrace(readFileSync(`${TRACES}/lte-driving-a.${way}`, 'utf8'));
const cases = catalogue({ lteDriving: { up: trace('up'), down: trace('down') } }).filter(({ lab }) => lab !== null);

/** Labs at a time: they mostly wait. */
const AT_ONCE = 2 * Math.min(2, availableParallelism());
const waiting: (() => void)[] = [];
let running = 0;

async function inTurn<T>(play: () => Promise<T>): Promise<T> {
  if (running === AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  else running++;
  try {
    return await play();
  } finally {
    const next = waiting.shift();
    if (next === undefined) running--;
    else next();
  }
}

for (const c of cases)
  test(c.name, async (t) => {
    t.timeout(280_000);
    const options = { prefix: 'ctx-cat-', tracesDir: TRACES, timeScale: 0.5, rateScale: 0.2, afterSeconds: 4 };
    const { bytes, gapMs, backInUseMs, broken } = await inTurn(() => playInLab(c, options));
    t.log(`${bytes} bytes, longest gap ${gapMs.toFixed(0)} ms, back in use after ${JSON.stringify(backInUseMs)} ms`);
    t.deepEqual(broken, []);
  });
