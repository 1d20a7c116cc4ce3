/**
 * Command sequences on a connection over bad links, drawn from seeds (tests/support/sim-commands.ts). A case that fails
 * prints its seed and the fewest of its commands that still fail. MPTUN_COMMANDS_SEED=n plays that one alone;
 * MPTUN_COMMANDS_COUNT=n plays more, from MPTUN_COMMANDS_FIRST on.
 */
import test from 'ava';
import { type Case, drawCase, playCase } from '../support/sim-commands.js';

const { MPTUN_COMMANDS_SEED, MPTUN_COMMANDS_FIRST = '1', MPTUN_COMMANDS_COUNT = '60' } = process.env;
/**
 * They showed an error once: deadlines of a connection that was over, a last DATA_ACK that nobody sent or that met a subflow
 * forgotten too soon, a bare FIN, a wake-up for credit that was there, a RST that nobody heard.
 */
const ONCE_FAILED = [93, 115, 228, 230, 275, 283, 970, 998, 1082, 1096, 1919, 2351, 2354, 2414, 3203, 4869];
const seeds =
  MPTUN_COMMANDS_SEED === undefined
    ? Array.from({ length: Number(MPTUN_COMMANDS_COUNT) }, (_, i) => Number(MPTUN_COMMANDS_FIRST) + i).concat(
        ONCE_FAILED,
      )
    : [Number(MPTUN_COMMANDS_SEED)];
/** Cases that are explained in full. */
const MAX_SHRUNK = 2;

function broken(c: Case): readonly string[] {
  try {
    return playCase(c).broken;
  } catch (error) {
    return [(error as Error).stack ?? String(error)];
  }
}

/** Leaves out commands as long as something is still wrong. */
function shrink(c: Case): Case {
  let least = c;
  for (let i = least.commands.length - 1; i >= 0; i--) {
    const fewer = { ...least, commands: least.commands.filter((_, at) => at !== i) };
    if (broken(fewer).length > 0) least = fewer;
  }
  return least;
}

test('what is read is what was written, whatever is done; windows never shrink; options fit; memory is bounded', (t) => {
  const failures: string[] = [];
  for (const seed of seeds) {
    const c = drawCase(seed);
    const what = broken(c);
    if (what.length === 0) continue;
    const least = failures.length < MAX_SHRUNK ? shrink(c) : c;
    failures.push(`MPTUN_COMMANDS_SEED=${seed}: ${what.join('; ')}\n  least: ${JSON.stringify(least)}`);
  }
  t.is(failures.length, 0, `${failures.length} of ${seeds.length}:\n${failures.join('\n')}`);
});

test('a seed is a run, to the last byte of the last segment', (t) => {
  const c = drawCase(seeds[0]!);
  const played = playCase(c);
  t.true(played.segments > 10);
  t.deepEqual(playCase(c), played);
});
