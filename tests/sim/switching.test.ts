/**
 * Middleboxes that change their ways mid-connection (RFC 8684 3.7): what is read is what was written, and an end is the end;
 * or the connection breaks and says so. MPTUN_SWITCHING_SEED=n plays that case alone; MPTUN_SWITCHING_COUNT=n more of them,
 * from MPTUN_SWITCHING_FIRST on.
 */
import test from 'ava';
import { drawSwitching, playSwitching, type SwitchingCase } from '../support/switching.js';

const { MPTUN_SWITCHING_SEED, MPTUN_SWITCHING_FIRST = '1', MPTUN_SWITCHING_COUNT = '150' } = process.env;
const seeds =
  MPTUN_SWITCHING_SEED === undefined
    ? Array.from({ length: Number(MPTUN_SWITCHING_COUNT) }, (_, i) => Number(MPTUN_SWITCHING_FIRST) + i)
    : [Number(MPTUN_SWITCHING_SEED)];
/** Cases that are explained in full. */
const MAX_SHRUNK = 2;

function wrong(c: SwitchingCase): readonly string[] {
  try {
    return playSwitching(c).wrong;
  } catch (error) {
    return [(error as Error).stack ?? String(error)];
  }
}

/** Leaves out writes and phases as long as something is still wrong. */
function shrink(c: SwitchingCase): SwitchingCase {
  let least = c;
  const attempt = (fewer: SwitchingCase) => {
    if (wrong(fewer).length > 0) least = fewer;
  };
  for (let i = c.writes.length - 1; i >= 0; i--)
    attempt({ ...least, writes: least.writes.filter((_, at) => at !== i) });
  for (let p = 0; p < c.paths.length; p++)
    for (let i = c.paths[p]!.phases.length - 1; i >= 0; i--) {
      const paths = least.paths.map((path, at) =>
        at === p ? { ...path, phases: path.phases.filter((_, j) => j !== i) } : path,
      );
      attempt({ ...least, paths });
    }
  return least;
}

test('options that come and go: intact to the end, or a connection that breaks; never silently wrong', (t) => {
  const failures: string[] = [];
  const seen = { whole: 0, broken: 0, fallbacks: 0 };
  for (const seed of seeds) {
    const c = drawSwitching(seed);
    const what = wrong(c);
    if (what.length > 0) {
      const least = failures.length < MAX_SHRUNK ? shrink(c) : c;
      failures.push(`MPTUN_SWITCHING_SEED=${seed}: ${what.join('; ')}\n  least: ${JSON.stringify(least)}`);
      continue;
    }
    const { isWhole, fallbacks } = playSwitching(c);
    if (isWhole) seen.whole++;
    else seen.broken++;
    if (fallbacks.client !== null || fallbacks.server !== null) seen.fallbacks++;
  }
  t.log(JSON.stringify(seen));
  t.is(failures.length, 0, `${failures.length} of ${seeds.length}:\n${failures.join('\n')}`);
  // The boxes bite, and yet most connections get through.
  if (seeds.length >= 100) t.true(seen.fallbacks > seeds.length / 5 && seen.whole > seeds.length / 2);
});
