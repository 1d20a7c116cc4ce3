/**
 * Opening subflows: which path is next, one at a time until the session stands, within the limits on subflows; and who goes
 * when there are too many (DESIGN 3.4). Only a client does this.
 */
import type { Micros } from '../base/time.js';
import type { PathOrders } from './orders.js';
import type { Path } from './path.js';
import { strictestRole } from './policy.js';
import { isWorking } from './table.js';
import { CONNECT_HEDGE_US, JOIN_TIMEOUT_US } from './timing.js';

export function attempt(m: PathOrders, nowUs: Micros): void {
  const ready = m.table.ordered(
    [...m.table.all()].filter((p) => p.state === 'probing' && !p.hasSubflow && !p.isUnlisted && p.retryAtUs <= nowUs),
  );
  if (m.session === 'none') {
    const isConnecting = [...m.table.all()].some((p) => p.state === 'joining');
    if (ready.length > 0 && !isConnecting) open(m, nowUs, ready[0]!, ready.length > 1);
    return;
  }
  if (m.session !== 'ready') return;
  for (const path of ready) {
    if (!m.isWanted(nowUs, path)) continue;
    const held = placesTaken(m, path);
    if (held.filter((p) => p.link.id === path.link.id).length >= m.maxPathsOver(path)) continue;
    if (held.length >= m.config.maxSubflows && !makeRoom(m, nowUs, path, held)) continue;
    open(m, nowUs, path, false);
  }
}

/**
 * Paths with a subflow that takes a place which `path` might need. While none works, one that is silent does not: it is
 * kept, since it may yet answer, but what could replace it is not to wait for that. `trim` sees to it that one of them goes.
 */
function placesTaken({ table }: PathOrders, path: Path): readonly Path[] {
  const held = table.held();
  if (table.working().length > 0) return held;
  const silent = held.find((p) => p.isStalled && p.link === path.link) ?? held.find((p) => p.isStalled);
  return held.filter((p) => p !== silent);
}

function open(m: PathOrders, nowUs: Micros, path: Path, isHedged: boolean): void {
  const { id: pathId, localAddress, remote } = path;
  const linkId = path.link.id;
  path.hasSubflow = true;
  path.deadlineUs = nowUs + (isHedged ? CONNECT_HEDGE_US : JOIN_TIMEOUT_US);
  m.move(nowUs, path, 'attempt', 'its turn');
  if (m.session === 'none') {
    path.isBackupSet = false;
    m.outbox.order({ type: 'connect', pathId, linkId, localAddress, remote });
    return;
  }
  const works = m.table.working().concat(path);
  path.isBackupSet = !m.choose(nowUs, m.table.ordered(works)).includes(path);
  m.outbox.order({ type: 'join', pathId, linkId, localAddress, remote, backup: path.isBackupSet });
}

/** True if there is room for `path` now: a suspended subflow goes at once, a lesser one is drained first. */
function makeRoom(m: PathOrders, nowUs: Micros, path: Path, held: readonly Path[]): boolean {
  const suspended = held.find((p) => p.state === 'down' && m.table.hasAnotherSubflow(p));
  if (suspended !== undefined) {
    m.reset(suspended);
    return true;
  }
  if (held.some((p) => p.state === 'draining')) return false;
  const worst = m.table.ordered(held.filter((p) => p.state === 'warm')).at(-1);
  if (worst === undefined || strictestRole(m.table.roleOf(path), m.table.roleOf(worst)) === m.table.roleOf(path))
    return false;
  m.dismiss(nowUs, worst, 'a better path needs its place');
  return false;
}

/** A subflow came back with its address after another had taken its place: the lesser one goes. */
export function trim(m: PathOrders, nowUs: Micros): void {
  const held = m.table.held().filter((p) => p.state !== 'draining');
  const isOver = (path: Path) =>
    held.length > m.config.maxSubflows || held.filter((p) => p.link.id === path.link.id).length > m.maxPathsOver(path);
  for (const path of m.table.ordered([...held]).reverse()) {
    if (!path.isEstablished || !isOver(path) || !held.some((p) => p !== path && isWorking(p))) continue;
    if (path.state === 'warm' || path.state === 'active') m.dismiss(nowUs, path, 'more subflows than allowed');
    else m.reset(path);
    held.splice(held.indexOf(path), 1);
  }
}
