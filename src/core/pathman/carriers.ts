/** Who carries data: the best working paths by policy.ts, taken into use before the others rest (DESIGN 3.4). */
import { type Micros, NEVER } from '../base/time.js';
import type { PathOrders } from './orders.js';
import type { Path } from './path.js';
import { OVERLAP_US } from './timing.js';

/** Also says when it has more to do (`restAtUs`). */
export function chooseCarriers(m: PathOrders, nowUs: Micros): void {
  const working = m.table.ordered(m.table.working());
  const chosen = m.choose(nowUs, working);
  const established = [...m.table.all()].filter((p) => p.state === 'warm' || p.state === 'active');
  // First the new ones, then the others: make before break.
  for (const path of established) if (chosen.includes(path)) use(m, nowUs, path);
  const overlapEndsUs = overlapEnd(m, chosen);
  m.restAtUs = NEVER;
  for (const path of established) {
    if (chosen.includes(path)) continue;
    // Nothing works: leave everything as it is; whatever answers first is used.
    if (working.length === 0) continue;
    const isHopeful = !working.includes(path) && m.config.mode === 'aggregate' && m.table.roleOf(path) === 'always';
    if (isHopeful) continue;
    if (path.state === 'active' && nowUs < overlapEndsUs && working.includes(path)) m.restAtUs = overlapEndsUs;
    else rest(m, nowUs, path);
  }
}

/** A path just taken into use has not found its rate yet: until it has, the one that it relieves goes on if it can. */
function overlapEnd(m: PathOrders, chosen: readonly Path[]): Micros {
  if (m.config.side === 'server') return Number.NEGATIVE_INFINITY;
  const first = Math.min(...chosen.filter((p) => p.state === 'active').map((p) => p.stateSinceUs));
  return first + OVERLAP_US;
}

function use(m: PathOrders, nowUs: Micros, path: Path): void {
  m.setBackup(path, false);
  if (path.state === 'active') return;
  m.move(nowUs, path, 'use', 'chosen to carry data');
}

function rest(m: PathOrders, nowUs: Micros, path: Path): void {
  m.setBackup(path, true);
  if (path.state === 'active') m.move(nowUs, path, 'rest', 'others carry the data');
}
