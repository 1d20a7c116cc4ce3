/** Who carries data: the best working paths by policy.ts, taken into use before the others rest (DESIGN 3.4). */
import type { Micros } from '../base/time.js';
import type { PathOrders } from './orders.js';
import type { Path } from './path.js';

export function chooseCarriers(m: PathOrders, nowUs: Micros): void {
  const working = m.table.ordered(m.table.working());
  const chosen = m.choose(nowUs, working);
  const established = [...m.table.all()].filter((p) => p.state === 'warm' || p.state === 'active');
  // First the new ones, then the others: make before break.
  for (const path of established) if (chosen.includes(path)) use(m, nowUs, path);
  for (const path of established) {
    if (chosen.includes(path)) continue;
    // Nothing works: leave everything as it is; whatever answers first is used.
    if (working.length === 0) continue;
    const isHopeful = !working.includes(path) && m.config.mode === 'aggregate' && m.table.roleOf(path) === 'always';
    if (!isHopeful) rest(m, nowUs, path);
  }
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
