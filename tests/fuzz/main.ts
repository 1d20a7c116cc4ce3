/**
 * `npm run fuzz [-- --seconds N --seed N --keep TARGET…]`: the long run, target after target. An input that fails is kept in
 * tests/fixtures/corpus, where `npm test` replays it; with --keep so are the shortest of those that lead to an outcome which the corpus does not have
 * yet.
 */
import { parseArgs } from 'node:util';
import { keep } from './fuzzer.js';
import { TARGETS } from './targets.js';
import { fuzzWatched } from './watched.js';

const { values, positionals } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
  allowPositionals: true,
});
/** Inputs kept per target and run. */
const MAX_KEPT = 20;

const names = positionals.length > 0 ? positionals : Object.keys(TARGETS);
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
let failures = 0;
for (const name of names) {
  if (TARGETS[name] === undefined) throw new Error(`no target ${name}: ${Object.keys(TARGETS).join(', ')}`);
  const round = await fuzzWatched(name, seed, Number(values.seconds) * 1000);
  console.log(`${name}: seed ${seed}, ${round.runs} inputs, ${round.found.size} new outcomes`);
  const shortest = [...round.found.values()].sort((a, b) => a.length - b.length).slice(0, MAX_KEPT);
  if (values.keep) for (const bytes of shortest) keep(name, 'seen', bytes);
  if (round.failure === null) continue;
  failures++;
  console.log(`${round.failure.error}\nkept: ${keep(name, 'failed', round.failure.bytes)}`);
}
process.exitCode = failures === 0 ? 0 : 1;
