/**
 * `npm run catalogue [-- WORD]`: every starred case of the handover catalogue (with WORD: those whose name has it) with real
 * processes, at full rates and times. Prints one line a case; exit status 1 if something that must hold did not.
 */
import { Stage, stageKey, starredCases } from '../src/lab/catalogue.js';

const options = { prefix: 'mptun-catalogue-', tracesDir: 'tests/fixtures/traces' };
const word = process.argv[2] ?? '';

const cases = starredCases(options.tracesDir)
  .filter(({ name }) => name.includes(word))
  .map((c) => ({ c, key: stageKey(c) }))
  .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));

let stage: Stage | null = null;
let failures = 0;
for (const [i, { c, key }] of cases.entries()) {
  let broken: readonly string[];
  try {
    stage ??= await Stage.open(c, options);
    const verdict = await stage.play(c);
    broken = verdict.broken;
    const back = Object.entries(verdict.backInUseMs).map(([name, ms]) => `, ${name} in use after ${ms} ms`);
    const gap = `longest gap ${verdict.gapMs.toFixed(0)} ms`;
    console.log(
      `${broken.length === 0 ? 'survived' : 'FAILED  '}  ${c.name}: ${verdict.bytes} bytes, ${gap}${back.join('')}`,
    );
  } catch (error) {
    broken = [(error as Error).message];
    console.log(`FAILED    ${c.name}`);
  }
  for (const line of broken) console.log(`            ${line}`);
  if (broken.length > 0) failures++;
  if (broken.length > 0 || cases[i + 1]?.key !== key) {
    await stage?.dispose();
    stage = null;
  }
}
console.log(`${cases.length - failures} of ${cases.length} survived`);
process.exitCode = failures === 0 ? 0 : 1;
