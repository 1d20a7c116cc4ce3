/**
 * Any bytes into every parser: nothing throws, nothing loops, and what each target of targets.ts checks holds. First what
 * earlier runs have kept (tests/fixtures/corpus), then for a moment something new; `npm run fuzz` is the long run.
 */
import test from 'ava';
import { corpusOf } from './fuzzer.js';
import { TARGETS } from './targets.js';
import { fuzzWatched, STUCK_MS } from './watched.js';

const SEED = 20_260;
const LIMIT_MS = 700;

for (const [name, target] of Object.entries(TARGETS)) {
  test(`${name}: the corpus`, (t) => {
    const corpus = corpusOf(name);
    for (const { file, bytes } of corpus) t.notThrows(() => target.run(bytes), file);
    for (const bytes of target.seeds()) t.notThrows(() => target.run(bytes), Buffer.from(bytes).toString('hex'));
  });

  test.serial(`${name}: any bytes`, async (t) => {
    t.timeout(2 * STUCK_MS);
    const round = await fuzzWatched(name, SEED, LIMIT_MS);
    t.log(`${round.runs} inputs, ${round.found.size} new outcomes`);
    t.true(round.runs > 0);
    if (round.failure === null) return;
    const { bytes, error } = round.failure;
    t.fail(`${error}\ninput: ${Buffer.from(bytes).toString('hex')}\nkeep it: npm run fuzz -- --seed ${SEED} ${name}`);
  });
}
