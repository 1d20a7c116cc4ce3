/**
 * Deadlines and possibility: attempts that nobody answers, subflows that are suspended, stalled or draining, and what becomes
 * of a path when its link or role comes or goes (DESIGN 3.4, make before break).
 */
import { type Micros, NEVER } from '../base/time.js';
import { failed } from './facts.js';
import type { PathOrders } from './orders.js';
import type { Path } from './path.js';
import { CLOSE_US, COOL_US, DRAIN_ALONE_US, DRAIN_US, OVERLAP_US, RECOVER_US, STALL_REPLACE_US } from './timing.js';

/** What is due by now: an attempt's answer, a suspended or stalled subflow, draining, a block. */
export function expire(m: PathOrders, nowUs: Micros, path: Path): void {
  const isDue = nowUs >= path.deadlineUs;
  if (path.state === 'joining' && isDue) {
    m.outbox.order({ type: 'close', pathId: path.id, how: 'reset' });
    failed(m, nowUs, path, 'timeout', false);
  } else if (path.state === 'probing' && path.hasSubflow && isDue) {
    // The last subflow is never given up: the connection lives in it, and it may yet answer. A server leaves it to the
    // client, which alone can open another.
    if (m.config.side === 'server') path.deadlineUs = NEVER;
    else if (m.table.hasAnotherSubflow(path)) m.reset(path);
    else path.deadlineUs = nowUs + RECOVER_US;
  } else if (path.state === 'draining') drain(m, nowUs, path);
  else if (path.state === 'blocked' && nowUs >= path.retryAtUs) m.move(nowUs, path, 'retry', 'time to try again');
  else if (
    path.isStalled &&
    (path.state === 'warm' || path.state === 'active') &&
    nowUs >= path.stalledSinceUs + STALL_REPLACE_US &&
    m.config.side === 'client' &&
    m.table.anotherWorks(path)
  ) {
    m.reset(path);
    path.resetBackOff(nowUs);
    m.move(nowUs, path, 'lost', 'stalled for too long');
  } else if (
    isCooling(path) &&
    nowUs >= path.stateSinceUs + COOL_US &&
    m.session === 'ready' &&
    m.config.side === 'client'
  ) {
    if (!m.isWanted(nowUs, path) && m.table.anotherWorks(path)) m.dismiss(nowUs, path, 'not kept warm');
  }
}

/** Rests, and is not to be kept for later. */
export function isCooling(path: Path): boolean {
  return path.link.keepWarm === false && path.state === 'warm';
}

/** Another path works, but none has carried data for long enough to have found its rate. */
function hasYoungSuccessor(m: PathOrders, nowUs: Micros, path: Path): boolean {
  const others = m.table.working().filter((p) => p !== path && m.table.roleOf(p) !== 'never');
  return others.length > 0 && others.every((p) => p.state !== 'active' || nowUs < p.stateSinceUs + OVERLAP_US);
}

function drain(m: PathOrders, nowUs: Micros, path: Path): void {
  if (path.isCloseSent) {
    if (nowUs < path.deadlineUs) return;
    m.reset(path);
    m.move(nowUs, path, 'lost', 'FIN not answered');
    return;
  }
  // Make before break: another path has to work, unless none comes in time.
  const waitUs = m.table.anotherWorks(path) ? DRAIN_US : DRAIN_ALONE_US;
  path.deadlineUs = path.stateSinceUs + waitUs;
  if (nowUs < path.deadlineUs) return;
  path.isCloseSent = true;
  path.deadlineUs = nowUs + CLOSE_US;
  m.outbox.order({ type: 'close', pathId: path.id, how: 'fin' });
}

/** Follows link, address and role: possible, not possible, or to be left in good order. */
export function reach(m: PathOrders, nowUs: Micros, path: Path): void {
  const isThere = path.link.isUp && !path.isOrphan;
  const isAllowed = m.table.roleOf(path) !== 'never';
  if (isThere && isAllowed) {
    if (path.state === 'draining' && !path.isCloseSent) {
      path.deadlineUs = NEVER;
      m.move(nowUs, path, 'keep', 'allowed again');
    }
    if (path.state === 'blocked' && path.retryAtUs <= nowUs) m.move(nowUs, path, 'retry', 'circumstances changed');
    if (path.state !== 'down') return;
    path.resetBackOff(nowUs);
    if (path.hasSubflow) resume(m, nowUs, path);
    m.move(nowUs, path, 'possible', 'link and addresses are there');
    return;
  }
  if (path.state === 'down') {
    if (isThere && path.hasSubflow) m.reset(path); // came back, but is not wanted any more
    return;
  }
  const isInUse = path.state === 'warm' || path.state === 'active';
  if (isThere && isInUse) {
    // Its successor is taken into use first (carriers.ts), and both overlap.
    if (path.state === 'active' && m.config.side === 'client' && hasYoungSuccessor(m, nowUs, path)) return;
    m.setBackup(path, true);
    m.tell(path, { what: 'going' });
    m.move(nowUs, path, 'drop', 'role is never');
    path.deadlineUs = nowUs + (m.table.anotherWorks(path) ? DRAIN_US : DRAIN_ALONE_US);
    return;
  }
  if (isThere && path.state === 'draining') return;
  // A subflow that was established outlives its link for now: the same addresses may return in a moment.
  if (path.hasSubflow && (isThere || !path.isEstablished)) m.reset(path);
  path.deadlineUs = NEVER;
  path.isUnprobed = path.hasSubflow && path.link.isUp;
  if (path.hasSubflow && !path.wasToldGone) {
    path.wasToldGone = true;
    m.tell(path, { what: 'gone' });
  }
  m.move(nowUs, path, 'impossible', isThere ? 'role is never' : path.isOrphan ? 'address is gone' : 'link is down');
}

/** Its link or address is back: the suspended subflow has a moment to answer. */
function resume(m: PathOrders, nowUs: Micros, path: Path): void {
  path.deadlineUs = nowUs + RECOVER_US;
  // A link that came up has been announced as such; one that was up all the time lost only the address.
  if (path.isUnprobed) m.outbox.order({ type: 'link-state', linkId: path.link.id, isUp: true });
  path.isUnprobed = false;
}

/** Forgets paths that are no more, and ends the subflows of links that are no more, the last one excepted. */
export function forget(m: PathOrders): void {
  for (const path of m.table.all()) {
    if (path.isOrphan && path.hasSubflow && m.table.hasAnotherSubflow(path)) m.reset(path);
    const isOver = path.isOrphan || path.isUnlisted || m.config.side === 'server';
    if (isOver && !path.hasSubflow) m.table.remove(path);
  }
}
